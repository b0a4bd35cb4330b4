"""An API key: its name, the digests of its secrets, and its rights. The secrets themselves are kept nowhere."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from time import time_ns
from typing import Literal, get_args

from services.access.rights import LOCAL, Rights

Source = Literal["config", "environment", "store"]
SOURCES: tuple[Source, ...] = get_args(Source)

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
NAME_MEANING = "at most 64 letters, digits, '_', '.' and '-', the first of them a letter"

NAME_DIGITS = 8
"""An unnamed key is called ``key-`` and this many hex digits of its SHA-256, wherever in a list it stands."""

THIS_RUN = "this-run"
"""The name of a key that was made for one run of the server, because none was configured."""

RESERVED = (LOCAL, THIS_RUN)

SECRETS_LIMIT = 4
"""The most secrets of one key: an old and a new one are enough to change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Times are microseconds since the epoch."""

    name: str
    digests: tuple[bytes, ...] = field(repr=False)
    rights: Rights = Rights()
    source: Source = "config"
    created_at: int | None = None
    expires_at: int | None = None

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= now()


IS_PAST = "is in the past: the key would never be valid"


def now() -> int:
    return time_ns() // 1000


def new_secret() -> str:
    return secrets.token_urlsafe(32)


def to_digest(secret: str) -> bytes:
    return sha256(secret.encode(errors="replace")).digest()


def default_name(digest: bytes) -> str:
    return f"key-{digest.hex()[:NAME_DIGITS]}"


def why_no_name(name: str) -> str | None:
    """What is wrong with the name of a new key."""
    if not NAME.fullmatch(name):
        return f"{name[:80]!r} is not a name for a key: expected {NAME_MEANING}"
    return f"the name {name!r} is reserved; choose another" if name in RESERVED else None


def to_moment(text: str) -> int:
    """``2027-01-31T12:00:00Z``, RFC 3339 with a zone. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text.upper():
        raise ValueError("expected a time with a zone, as 2027-01-31T12:00:00Z")
    return round(moment.timestamp() * 1_000_000)


def to_expiry(text: str) -> int:
    """Of a new key: as `to_moment`, and not over yet. Raises ValueError."""
    moment = to_moment(text)
    if moment <= now():
        raise ValueError(IS_PAST)
    return moment
