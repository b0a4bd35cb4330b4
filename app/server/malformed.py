"""The response to a malformed HTTP request: in its surface's format if the path is known, always with a request id."""

from __future__ import annotations

from http import HTTPStatus
from traceback import walk_tb

from gunicorn.http import errors
from gunicorn.http.message import Request

from app.api.aliases import resolve_alias
from app.api.errors import CODE_OF_STATUS, Problem
from app.api.surfaces import error_answer, surface_of

STATUS = {
    errors.LimitRequestLine: 414,
    errors.ExpectationFailed: 417,
    errors.LimitRequestHeaders: 431,
    errors.UnsupportedTransferCoding: 501,
}
"""Errors with their own status in RFC 9110 and 9112; any other malformed request is a 400."""


def answer_malformed(error: errors.ParseException, request_id: str) -> bytes:
    """The whole response, head and body. The connection must then be closed."""
    status = STATUS.get(type(error), 400)
    path = resolve_alias(path_of(error), {})
    problem = Problem(code=CODE_OF_STATUS.get(status, "invalid_request"), message=f"invalid HTTP request: {error}", http_status=status)
    answer = error_answer(problem, path, request_id)
    headers = {
        **answer.headers,
        "Content-Length": str(len(answer.body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-ID": request_id,
    }
    if name := surface_of(path).request_id_header:
        headers[name] = request_id
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + answer.body


def path_of(error: BaseException) -> str:
    """The path if the request line was read before the error, else empty. gunicorn does not expose the partial request."""
    for frame, _ in walk_tb(error.__traceback__):
        request = frame.f_locals.get("self")
        if isinstance(request, Request):
            return request.path or ""
    return ""
