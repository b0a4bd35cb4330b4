"""How the native API encodes one run: its events, and its result."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from time import monotonic

from flask import request

from blueprints.native.translate import EventEncoder, to_fallback, to_result
from blueprints.response_headers import denied_header, ignored_header, retry_after_header
from blueprints.runs.plan import Beginning, Origin
from blueprints.runs.work import Encode, StreamWork
from blueprints.streaming import EVENT_STREAM, NDJSON
from services.errors import RunFailed
from services.requests import RunResult
from services.run_stream import RunStream
from services.runs.work import Answer

NOT_A_RESULT = {"timeout", "not_logged_in", "cancelled", "shutdown", "server_stopped", "unknown_session"}
"""Failure kinds that become an error response (504, 503, 404). After any other failure the response is the run's result."""


def stream_type(output_formats: Iterable[str]) -> str | None:
    """The stream's content type by ``output_formats`` and Accept, or None for one JSON object. Used by every native run route."""
    accepted = {media_type.partition(";")[0].strip().lower() for media_type, quality in request.accept_mimetypes if quality > 0}
    if EVENT_STREAM in accepted:
        return EVENT_STREAM
    return NDJSON if NDJSON in accepted or "stream-json" in output_formats else None


def to_work(stream: RunStream, beginning: Beginning, origin: Origin) -> StreamWork:
    """The native encoding of a run that has just started."""
    invocation = stream.invocation

    def to_encoder(as_sse: bool) -> Encode:
        facts = {
            "run_id": beginning.run_id,
            "backend": invocation.spec.name,
            "model": invocation.model,
            "ignored": list(invocation.ignored),
            "fallback": to_fallback(invocation.request.passed_over),
            "elapsed_ms": lambda: round((monotonic() - stream.started_at) * 1000),
        }
        return EventEncoder(facts, as_sse=as_sse, sequence=count(beginning.first))

    def to_answer(result: RunResult) -> Answer:
        if result.failure and result.failure.kind in NOT_A_RESULT:
            raise RunFailed(result.failure, result)
        headers = {**denied_header(result.denied_tools), **retry_after_header(result.failure)}
        return Answer(body=to_result(result, beginning.run_id, origin), headers=headers)

    return StreamWork(stream, stream, to_encoder=to_encoder, to_answer=to_answer, headers=ignored_header(invocation.ignored))
