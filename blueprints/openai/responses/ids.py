"""The ids of responses and of their items, which carry the CLI's session that they left: so they can be continued without a store. Pure.

``resp_`` (``msg_``, ``rs_``) and base64url of: version, 9 random bytes that a response and its items share, 3 that are an item's own (0
of a response), 8 that stand for its owner, a signature of 16 bytes, and ``backend/session`` (empty where nothing was kept, and in the id
of a background response, which is older than its session). The shared bytes are also in the id of the response's run: every id of ours
leads to it.

The signature (HMAC-SHA256 with the server's secret) keeps anyone from making an id for a session that this server did not answer
with, such as one that the operator made by hand. An id with another signature is unknown, like any other text, and so is another
owner's. Ids of version 3 name no owner: only those who see everything may use them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from dataclasses import dataclass

from services.access.scope import Scope
from services.clis.safety import SAFE_NAME
from services.runs.record import ID_PREFIX

RESPONSE, MESSAGE, REASONING = "resp_", "msg_", "rs_"
VERSION, WITHOUT_OWNER = b"\x04", b"\x03"
NODE_BYTES, OWN_BYTES, OWNER_BYTES = 9, 3, 8
RANDOM_BYTES = NODE_BYTES + OWN_BYTES
HEAD_BYTES = {VERSION: RANDOM_BYTES + OWNER_BYTES, WITHOUT_OWNER: RANDOM_BYTES}
"""What is between the version and the signature."""
SIGNATURE_BYTES = 16
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
    """Random bytes that identify a response."""
    return secrets.token_bytes(NODE_BYTES)


def new_id(secret: bytes, prefix: str, backend: str, session_id: str | None, node: bytes | None = None, *, owner: str) -> str:
    """``session_id`` None: the run kept nothing."""
    carried = f"{backend}/{session_id}" if session_id and is_session_id(session_id) else ""
    own = bytes(OWN_BYTES) if prefix == RESPONSE else secrets.token_bytes(OWN_BYTES)
    head, data = (node or new_node()) + own + _stand_in(secret, owner), carried.encode()
    return prefix + _text(VERSION + head + _signature(secret, VERSION, head, data) + data)


def session_of(secret: bytes, scope: Scope, given: str, *prefixes: str) -> Session | None:
    """The session that a response or an item left; None for one that left none, and for what is no such id of ours in ``scope``."""
    node, data = _decoded(secret, scope, given, *prefixes)
    backend, slash, session_id = data.partition("/")
    return Session(backend, session_id, node.hex()) if slash and is_session_id(session_id) else None


def run_of(secret: bytes, scope: Scope, given: str, *prefixes: str) -> str | None:
    """The id of the run of a response or an item; None for what is no such id of ours in ``scope``."""
    node, _ = _decoded(secret, scope, given, *prefixes)
    return to_run_id(node) if node else None


def to_run_id(node: bytes) -> str:
    return ID_PREFIX + node.hex()


def node_of(run_id: str) -> bytes:
    """Of a run whose id is from `to_run_id`."""
    return bytes.fromhex(run_id.removeprefix(ID_PREFIX))


def is_session_id(text: str) -> bool:
    return len(text) >= SESSION_LEAST_CHARS and SAFE_NAME.fullmatch(text) is not None


def _decoded(secret: bytes, scope: Scope, given: str, *prefixes: str) -> tuple[bytes, str]:
    prefix = next((prefix for prefix in prefixes if given.startswith(prefix)), None)
    return _carried(secret, scope, given.removeprefix(prefix)) if prefix and len(given) <= ID_LIMIT_CHARS else (b"", "")


def _carried(secret: bytes, scope: Scope, text: str) -> tuple[bytes, str]:
    """The response and its session; both empty for what is no such id."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        version = raw[:1]
        start = 1 + HEAD_BYTES.get(version, 0)
        head, signature, data = raw[1:start], raw[start : start + SIGNATURE_BYTES], raw[start + SIGNATURE_BYTES :]
        is_ours = hmac.compare_digest(signature, _signature(secret, version, head, data)) and _text(raw) == text
        is_seen = scope.owner is None or hmac.compare_digest(head[RANDOM_BYTES:], _stand_in(secret, scope.owner))
        return (head[:NODE_BYTES], data.decode()) if is_ours and is_seen and head else (b"", "")
    except (binascii.Error, ValueError):
        return b"", ""


def _stand_in(secret: bytes, owner: str) -> bytes:
    """Of the owner's name, which an id does not tell."""
    return hmac.digest(secret, b"response-owner" + owner.encode(), "sha256")[:OWNER_BYTES]


def _signature(secret: bytes, version: bytes, head: bytes, data: bytes) -> bytes:
    return hmac.digest(secret, b"response-id" + version + head + data, "sha256")[:SIGNATURE_BYTES]


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
