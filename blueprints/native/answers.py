"""A run answered: whole, or as its events while it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from flask import Response, jsonify, request

from blueprints.client_watch import watch_client
from blueprints.context import request_id
from blueprints.http import stream_response
from blueprints.native.translate import EventEncoder, to_result
from services.cancellation import Cancellation
from services.errors import RunFailed
from services.runner import collect
from services.turn_stream import NamelessStream, TurnStream

Begin = Callable[[Cancellation], TurnStream | NamelessStream]

NOT_A_RESULT = {"timeout", "not_logged_in", "cancelled", "shutdown", "unknown_session"}
"""Kinds of failure that are an error answer (504, 503, 404); after any other the CLI has run, and this is its result."""


def answer_run(begin: Begin, body: Mapping[str, Any]) -> Response:
    """What ``begin`` starts, in the form that the request asks for. What is refused is refused before the first byte."""
    as_sse = request.accept_mimetypes.best == "text/event-stream"
    cancellation, watch = watch_client()
    try:
        stream = begin(cancellation)
    except BaseException:
        watch.close()
        raise
    invocation = stream.invocation
    if as_sse or body["output_format"] == "stream-json":
        facts = {
            "backend": invocation.spec.name,
            "model": invocation.model,
            "ignored": list(invocation.ignored),
            "elapsed_ms": lambda: round((monotonic() - stream.started_at) * 1000),
        }
        content_type = "text/event-stream" if as_sse else "application/x-ndjson"
        return stream_response(stream, watch, EventEncoder(facts, as_sse=as_sse), content_type, ignored_header(invocation.ignored))
    try:
        with stream:
            result = collect(stream)
    finally:
        watch.close()
    if result.failure and result.failure.kind in NOT_A_RESULT:
        raise RunFailed(result.failure, result)
    response = jsonify(to_result(result, request_id()))
    response.headers.extend(ignored_header(result.ignored))
    return response


def ignored_header(ignored: tuple[str, ...]) -> dict[str, str]:
    return {"X-Clinvk-Ignored": ", ".join(ignored)} if ignored else {}
