"""A set of keys, and which of them a presented secret belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.access.key import Key, to_digest


class KeyRing:
    """Immutable. An empty ring is false. Names are unique."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        self._keys = {key.name: key for key in keys}
        self._by_digest = {digest: key for key in self._keys.values() for digest in key.digests}

    def find(self, presented: str) -> Key | None:
        """The key that ``presented`` belongs to, also if it has expired.

        Lookup is by SHA-256 digest, which a caller cannot choose, so its timing reveals nothing about any key.
        """
        return self._by_digest.get(to_digest(presented))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._keys)

    @property
    def has_admin(self) -> bool:
        return any(key.rights.is_admin and not key.is_expired for key in self)

    def __contains__(self, name: object) -> bool:
        return name in self._keys

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.names)})"
