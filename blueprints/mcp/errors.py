"""The form of errors that come before a message is looked at: no key, too long, a bug. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blueprints.mcp.protocol import INTERNAL_ERROR, INVALID_REQUEST, REFUSED, RpcError, error_answer

CODES: Mapping[str, int] = {
    "internal_error": INTERNAL_ERROR,
    **dict.fromkeys(("authentication_error", "permission_denied", "key_revoked", "rate_limit_exceeded", "budget_exceeded"), REFUSED),
}
"""By our error code; every other one is an invalid request."""


def to_error(code: str, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    return error_answer(None, RpcError(CODES.get(code, INVALID_REQUEST), message, {"code": code, **details}))
