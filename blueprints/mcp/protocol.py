"""The Model Context Protocol over HTTP: revisions, requests, answers and errors. Pure.

Up to 2025-11-25 a client begins with `initialize` and names the negotiated revision in a header. From 2026-07-28 on nothing is
negotiated: every request carries what it needs in ``params._meta`` and repeats it in headers, and closing the stream cancels it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
STATELESS = ("2026-07-28",)
REVISIONS = (*STATELESS, *HANDSHAKE)
"""The newest first."""
BATCHED = "2025-03-26"
"""The one revision over HTTP in which a body may be an array of messages; and the one of a request without the header."""
BATCH_LIMIT = 50

VERSION_HEADER, METHOD_HEADER, NAME_HEADER = "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"
SESSION_HEADER = "Mcp-Session-Id"
"""Issued to clients of the older revisions and never looked up: it distinguishes their requests from others with the same key."""
META = "io.modelcontextprotocol/"
VERSION_KEY, CAPABILITIES_KEY, SERVER_KEY = f"{META}protocolVersion", f"{META}clientCapabilities", f"{META}serverInfo"
ENCODED = re.compile(r"=\?base64\?(.*)\?=")
"""A header's value that is no printable ASCII."""

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
REFUSED = -32003
"""Of ours, in the range for that: the HTTP status says why."""
HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

ALWAYS_400 = (PARSE_ERROR, INVALID_REQUEST, HEADER_MISMATCH, UNSUPPORTED_VERSION)
STATELESS_STATUS = {INVALID_PARAMS: 400, METHOD_NOT_FOUND: 404}


Header = Callable[[str], str | None]
"""The value of a request's header."""


class RpcError(Exception):
    """An answer to a message that cannot be served. What a model can mend is a tool's result instead."""

    def __init__(self, code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def status(self, *, is_stateless: bool) -> int:
        if self.code in ALWAYS_400:
            return 400
        return STATELESS_STATUS.get(self.code, 200) if is_stateless else 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a client. ``streams``: whether it takes the answer as a stream, with progress before it."""

    id: int | str
    method: str
    params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_stateless: bool = False
    streams: bool = False

    @property
    def meta(self) -> Mapping[str, Any]:
        found = self.params.get("_meta")
        return found if isinstance(found, dict) else {}

    @property
    def progress_token(self) -> int | str | None:
        """None: the client wants no progress."""
        token = self.meta.get("progressToken")
        return token if _is_id(token) else None

    def answer(self, result: Mapping[str, Any], server: Mapping[str, str]) -> dict[str, Any]:
        if self.is_stateless:
            result = {**result, "resultType": "complete", "_meta": {SERVER_KEY: server}}
        return {"jsonrpc": "2.0", "id": self.id, "result": result}


def to_request(sent: Any, header: Header, *, streams: bool) -> Request | None:
    """The request of a message; None for a notification or a response, which get no answer. Raises RpcError."""
    if not isinstance(sent, dict) or sent.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, 'expected one JSON-RPC message: an object with `"jsonrpc": "2.0"`')
    revision = to_revision(sent, header)
    is_stateless = revision in STATELESS
    method, params = sent.get("method"), sent.get("params", {})
    if method is None and not is_stateless and ("result" in sent or "error" in sent):
        return None
    if not isinstance(method, str):
        raise RpcError(INVALID_REQUEST, "method: expected a string")
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "params: expected an object")
    if "id" not in sent:
        return None
    if not _is_id(sent["id"]):
        raise RpcError(INVALID_REQUEST, "id: expected a string or a whole number")
    request = Request(id=sent["id"], method=method, params=params, is_stateless=is_stateless, streams=streams)
    if is_stateless:
        _check_envelope(request, header, revision)
    return request


def to_revision(sent: Any, header: Header) -> str:
    """The revision that a message is in. Raises RpcError."""
    named = header(VERSION_HEADER)
    if named is None:
        # A stateless request without the header is inconsistent: 400.
        return STATELESS[0] if VERSION_KEY in _meta_of(sent) else BATCHED
    if named not in REVISIONS:
        data = {"supported": list(REVISIONS), "requested": named[:100]}
        raise RpcError(UNSUPPORTED_VERSION, f"{VERSION_HEADER}: this server speaks {', '.join(REVISIONS)}", data)
    return named


def id_of(sent: Any) -> int | str | None:
    """For the answer to a message that may be wrong in any way."""
    found = sent.get("id") if isinstance(sent, dict) else None
    return found if _is_id(found) else None


def error_answer(id: int | str | None, error: RpcError) -> dict[str, Any]:
    more = {"data": error.data} if error.data else {}
    return {"jsonrpc": "2.0", "id": id, "error": {"code": error.code, "message": error.message, **more}}


def _check_envelope(request: Request, header: Header, revision: str) -> None:
    missing = [key for key in (VERSION_KEY, CAPABILITIES_KEY) if key not in request.meta]
    if missing:
        raise RpcError(INVALID_PARAMS, f"params._meta: {' and '.join(missing)} missing; revision {revision} requires both")
    expected = {VERSION_HEADER: request.meta[VERSION_KEY], METHOD_HEADER: request.method}
    if request.method == "tools/call" and "name" in request.params:
        expected[NAME_HEADER] = request.params["name"]
    for name, value in expected.items():
        if _decoded(header(name)) != value:
            raise RpcError(HEADER_MISMATCH, f"{name}: the header must be there once and equal the body's {str(value)[:100]!r}")


def _decoded(header: str | None) -> str | None:
    """None for a value that is encoded wrongly: it equals nothing."""
    encoded = ENCODED.fullmatch(header or "")
    if not encoded:
        return header
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _meta_of(sent: Any) -> Mapping[str, Any]:
    params = sent.get("params") if isinstance(sent, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    return meta if isinstance(meta, dict) else {}


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
