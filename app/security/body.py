"""Limits on a request's body: its size, and the time it may take to arrive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flask
from gevent import Timeout
from gunicorn.http.errors import ParseException
from webargs.core import is_json
from werkzeug.http import parse_options_header

from services.errors import ClinvkError, InvalidRequest, RequestTooLarge

READ_TIMEOUT = "CLINVK_READ_TIMEOUT_S"
BODY_LIMIT = "CLINVK_BODY_LIMIT_BYTES"

LENGTH_LIMIT_DIGITS = 18
"""A Content-Length with more digits is rejected without conversion."""


class BodyTooSlow(ClinvkError):
    code = "request_timeout"


class UnsupportedMediaType(ClinvkError):
    code = "unsupported_media_type"


class Request(flask.Request):
    """Reads a body within ``server.read_timeout_secs`` and ``server.max_request_body_bytes``.

    The time limit covers the whole body: a limit per ``recv`` would let a client drip one byte at a time. Nothing is read
    before a view reads the body, so unauthenticated requests cost no memory.
    """

    def get_data(self, *args: Any, **kwargs: Any) -> Any:
        config = flask.current_app.config
        timeout_s = config[READ_TIMEOUT]
        too_slow = BodyTooSlow(f"the request body did not arrive within {timeout_s:g} s (server.read_timeout_secs)")
        try:
            with Timeout(timeout_s, too_slow):
                data = super().get_data(*args, **kwargs)
        except ParseException:
            raise InvalidRequest("the request body is not valid chunked encoding", issue="malformed chunk") from None
        if len(data) > config[BODY_LIMIT]:
            raise too_large(config[BODY_LIMIT])
        return data


def body_config(timeout_s: float, limit_bytes: int) -> dict[str, Any]:
    """The limits as Flask configuration."""
    # Werkzeug silently truncates a chunked body at its limit, so its limit is one byte higher.
    return {READ_TIMEOUT: timeout_s, BODY_LIMIT: limit_bytes, "MAX_CONTENT_LENGTH": limit_bytes + 1}


def too_large(limit_bytes: int, sent_bytes: str | None = None) -> RequestTooLarge:
    sent = f"of {sent_bytes} bytes " if sent_bytes else ""
    return RequestTooLarge(
        f"the request body {sent}is larger than the limit of {limit_bytes} bytes (server.max_request_body_bytes)", limit_bytes=limit_bytes
    )


def check_declared_size(environ: Mapping[str, Any], limit_bytes: int) -> None:
    """Reject by Content-Length, before any byte is read. Raises RequestTooLarge."""
    declared = environ.get("CONTENT_LENGTH")
    if declared and declared.isdecimal() and (len(declared) > LENGTH_LIMIT_DIGITS or int(declared) > limit_bytes):
        raise too_large(limit_bytes, declared[:LENGTH_LIMIT_DIGITS])


def check_media_type(environ: Mapping[str, Any]) -> None:
    """Reject a body that is not declared as JSON. Raises UnsupportedMediaType.

    A web page can send such a body to a local server without a CORS preflight.
    """
    if environ.get("CONTENT_LENGTH") in (None, "", "0") and "HTTP_TRANSFER_ENCODING" not in environ:
        return
    media_type, _ = parse_options_header(environ.get("CONTENT_TYPE", ""))
    if not is_json(media_type.lower()):
        sent = f"Content-Type {media_type[:100]!r}" if media_type else "no Content-Type"
        raise UnsupportedMediaType(
            f"the body must be JSON with Content-Type application/json; got {sent} (curl: -H 'Content-Type: application/json')"
        )
