"""The ids of responses and of their items, which carry the CLI's session that they left: so they can be continued without a store. Pure.

``resp_`` (``msg_``, ``rs_``) and base64url of: version, 9 random bytes that a response and its items share, 3 that are its own, 4 bytes
of a checksum, and ``backend/session`` (empty where nothing was kept).
Whoever has the id may continue the session, as whoever has a session's own id may; so ids that can be guessed are not carried.
With a store, `session_of` looks the id up instead; nothing else knows what is in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass

from services.backends.checks import SAFE_NAME

RESPONSE, MESSAGE, REASONING = "resp_", "msg_", "rs_"
VERSION = b"\x02"
NODE_BYTES = 9
RANDOM_BYTES = NODE_BYTES + 3
CHECK_BYTES = 4
ID_LIMIT_CHARS = 400

SESSION_LEAST_CHARS = 16
"""A shorter one is no id but a name that CLIs take as well: ``latest``, ``3``."""


@dataclass(frozen=True, slots=True)
class Session:
    """A CLI's own session, or one of ours, as a response left it. ``node`` says which response."""

    backend: str
    id: str
    node: str = ""


def new_node() -> bytes:
    """What tells a response from all others."""
    return secrets.token_bytes(NODE_BYTES)


def new_id(prefix: str, backend: str, session_id: str | None, node: bytes | None = None) -> str:
    """``session_id`` None: the run kept nothing."""
    carried = f"{backend}/{session_id}" if session_id and is_session_id(session_id) else ""
    noise, data = (node or new_node()) + secrets.token_bytes(RANDOM_BYTES - NODE_BYTES), carried.encode()
    return prefix + _text(VERSION + noise + _check(noise, data) + data)


def session_of(given: str, *prefixes: str) -> Session | None:
    """The session that a response or an item left; None for one that left none, and for what is no such id of ours."""
    prefix = next((prefix for prefix in prefixes if given.startswith(prefix)), None)
    node, data = _carried(given.removeprefix(prefix)) if prefix and len(given) <= ID_LIMIT_CHARS else (b"", "")
    backend, slash, session_id = data.partition("/")
    return Session(backend, session_id, node.hex()) if slash and is_session_id(session_id) else None


def is_session_id(text: str) -> bool:
    return len(text) >= SESSION_LEAST_CHARS and SAFE_NAME.fullmatch(text) is not None


def _carried(text: str) -> tuple[bytes, str]:
    """The response and its session; both empty for what is no such id."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        noise, check, data = raw[1 : 1 + RANDOM_BYTES], raw[1 + RANDOM_BYTES :][:CHECK_BYTES], raw[1 + RANDOM_BYTES + CHECK_BYTES :]
        is_ours = raw[:1] == VERSION and check == _check(noise, data) and _text(raw) == text
        return (noise[:NODE_BYTES], data.decode()) if is_ours else (b"", "")
    except (binascii.Error, ValueError):
        return b"", ""


def _check(noise: bytes, data: bytes) -> bytes:
    """Against an id that was cut or mistyped; it keeps no one from making one."""
    return hashlib.sha256(VERSION + noise + data).digest()[:CHECK_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
