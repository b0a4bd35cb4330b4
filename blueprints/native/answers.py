"""Responds to a native request with the run's result, or with its events as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any

from flask import Response, jsonify, request

from blueprints.current_request import request_id
from blueprints.native.translate import EventEncoder, to_result
from blueprints.response_headers import denied_header, ignored_header
from blueprints.streaming import EVENT_STREAM, NDJSON, open_run, stream_response
from services.cancellation import Cancellation
from services.errors import RunFailed
from services.fold import collect
from services.run_stream import RunStream

Begin = Callable[[Cancellation], RunStream]

NOT_A_RESULT = {"timeout", "not_logged_in", "cancelled", "shutdown", "unknown_session"}
"""Failure kinds that become an error response (504, 503, 404). After any other failure the response is the run's result."""


def stream_type(output_formats: Iterable[str]) -> str | None:
    """The stream's content type by ``output_formats`` and Accept, or None for one JSON object. Used by every native run route."""
    accepted = {media_type.partition(";")[0].strip().lower() for media_type, quality in request.accept_mimetypes if quality > 0}
    if EVENT_STREAM in accepted:
        return EVENT_STREAM
    return NDJSON if NDJSON in accepted or "stream-json" in output_formats else None


def answer_run(begin: Begin, body: Mapping[str, Any]) -> Response:
    """Run ``begin`` and respond in the requested form. Raises its errors before the first byte is sent."""
    content_type = stream_type([body["output_format"]])
    stream, closing = open_run(begin)
    invocation = stream.invocation
    with closing:
        if content_type:
            facts = {
                "backend": invocation.spec.name,
                "model": invocation.model,
                "ignored": list(invocation.ignored),
                "elapsed_ms": lambda: round((monotonic() - stream.started_at) * 1000),
            }
            encode = EventEncoder(facts, as_sse=content_type == EVENT_STREAM)
            return stream_response(stream, encode, content_type, ignored_header(invocation.ignored), closing.pop_all())
        result = collect(stream)
    if result.failure and result.failure.kind in NOT_A_RESULT:
        raise RunFailed(result.failure, result)
    response = jsonify(to_result(result, request_id()))
    response.headers.extend({**ignored_header(result.ignored), **denied_header(result.denied_tools)})
    return response
