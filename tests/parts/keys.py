"""Keys for tests that read no configuration."""

from __future__ import annotations

from typing import Any

from services.access.access import Access
from services.access.key import Key, default_name, to_digest
from services.access.key_ring import KeyRing
from services.access.keys_in_force import KeysInForce
from services.access.rights import Rights


def ring_of(*entries: str, **rights: Any) -> KeyRing:
    """Of ``name=secret`` or a secret alone, however short."""
    return KeyRing(_key(*entry.rpartition("=")[::2], **rights) for entry in entries)


def _key(name: str, secret: str, **rights: Any) -> Key:
    digest = to_digest(secret)
    return Key(name=name or default_name(digest), digests=(digest,), rights=Rights(**rights))


class NoStoredKeys:
    """A key store that stays empty."""

    def in_force(self) -> tuple[Key, ...]:
        return ()

    def note_uses(self, uses: object) -> None: ...


def keys_in_force(access: Access) -> KeysInForce:
    return KeysInForce(access, NoStoredKeys())  # type: ignore[arg-type]
