"""The access log: one line for each request. Never a prompt, a key or a query string."""

from __future__ import annotations

import logging

from app.observability.context import CurrentRequest

PATH_LIMIT_CHARS = 512

log = logging.getLogger("clinvk.access")


def log_request(request: CurrentRequest) -> None:
    """Call it when the answer has been sent, or the client has disconnected."""
    level = logging.WARNING if request.status >= 500 else logging.INFO
    if not log.isEnabledFor(level):
        return
    fields = {
        "method": request.method,
        "path": request.path[:PATH_LIMIT_CHARS],
        "status": request.status,
        "duration_ms": round(request.duration_s * 1000, 1),
        "bytes": request.bytes,
        "client": request.environ.get("REMOTE_ADDR"),
        "key": request.key_name,
        "request_id": request.request_id,
        "surface": request.surface,
    }
    if not request.is_complete:
        fields["aborted"] = True
    if request.error_code:
        fields["error"] = request.error_code
    if request.trace:
        fields["trace_id"] = request.trace.id
    log.log(level, "request", extra={"fields": fields})
