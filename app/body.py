"""Limits of a request's body: its size, and the time it may take to arrive."""

from __future__ import annotations

from typing import Any

import flask
from gevent import Timeout
from gunicorn.http.errors import ParseException
from webargs.core import is_json

from services.errors import ClinvkError, InvalidRequest, RequestTooLarge

READ_TIMEOUT = "CLINVK_READ_TIMEOUT_S"
BODY_LIMIT = "CLINVK_BODY_LIMIT_BYTES"


class BodyTooSlow(ClinvkError):
    code = "request_timeout"


class UnsupportedMediaType(ClinvkError):
    code = "unsupported_media_type"


class Request(flask.Request):
    """Reads a body within ``server.read_timeout_secs`` and ``server.max_request_body_bytes``, or not at all.

    A limit per ``recv`` would let a client drip one byte at a time, so the time limit is the whole body's. Nothing is read
    before a view asks for the body: who has no key costs no memory.
    """

    def get_data(self, *args: Any, **kwargs: Any) -> Any:
        config = flask.current_app.config
        timeout_s = config[READ_TIMEOUT]
        too_slow = BodyTooSlow(f"the request body did not arrive within {timeout_s:g} s (server.read_timeout_secs)")
        try:
            with Timeout(timeout_s, too_slow):
                data = super().get_data(*args, **kwargs)
        except ParseException:
            raise InvalidRequest("the request body is not what its Transfer-Encoding promises", issue="malformed chunk") from None
        if len(data) > config[BODY_LIMIT]:
            raise too_large(config[BODY_LIMIT])
        return data


def body_config(timeout_s: float, limit_bytes: int) -> dict[str, Any]:
    """Flask's configuration of the limits."""
    # Of a chunked body Werkzeug reads as much as it may and drops the rest without a word, so it may read one byte too many.
    return {READ_TIMEOUT: timeout_s, BODY_LIMIT: limit_bytes, "MAX_CONTENT_LENGTH": limit_bytes + 1}


def too_large(limit_bytes: int, sent_bytes: int | None = None) -> RequestTooLarge:
    sent = f"of {sent_bytes} bytes " if sent_bytes is not None else ""
    return RequestTooLarge(
        f"the request body {sent}is larger than the limit of {limit_bytes} bytes (server.max_request_body_bytes)", limit_bytes=limit_bytes
    )


def check_declared_size(request: flask.Request, limit_bytes: int) -> None:
    """Refuse by Content-Length, before one byte is read. Raises RequestTooLarge."""
    if request.content_length is not None and request.content_length > limit_bytes:
        raise too_large(limit_bytes, request.content_length)


def check_media_type(request: flask.Request) -> None:
    """Refuse a body that is not declared as JSON. Raises UnsupportedMediaType.

    More than pedantry: a web page can send such a body to a local server without a preflight.
    """
    has_body = bool(request.content_length) or "HTTP_TRANSFER_ENCODING" in request.environ
    if has_body and not is_json(request.mimetype):
        sent = f"Content-Type {request.mimetype!r}" if request.mimetype else "no Content-Type"
        raise UnsupportedMediaType(f"the body must be JSON with Content-Type application/json; got {sent}")
