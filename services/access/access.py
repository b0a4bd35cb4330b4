"""The keys in force: the rights of each owner, as they are now."""

from __future__ import annotations

from collections.abc import Mapping

from services.access.rights import LOCAL, UNLIMITED, Rights
from services.access.scope import EVERYONE, Scope
from services.errors import KeyRevoked


class Access:
    """One per process. `app.security` replaces the keys whenever they change."""

    def __init__(self, keys: Mapping[str, Rights] | None = None) -> None:
        self._keys: Mapping[str, Rights] = keys or {}

    def replace(self, keys: Mapping[str, Rights]) -> None:
        """``keys``: name → rights of all keys in force."""
        self._keys = keys

    @property
    def keys(self) -> Mapping[str, Rights]:
        return self._keys

    def rights_of(self, owner: str) -> Rights:
        """Raises KeyRevoked if ``owner`` is no key in force (any more). `LOCAL` always has all rights: nobody can present it as a key."""
        rights = self._keys.get(owner) or (UNLIMITED if owner == LOCAL else None)
        if rights is None:
            raise KeyRevoked(f"the API key {owner!r} is not in force")
        return rights

    def scope_of(self, owner: str) -> Scope:
        """Whose things ``owner`` sees. Raises KeyRevoked."""
        return EVERYONE if self.rights_of(owner).is_admin else Scope(owner)
