"""Which form a native run is answered in: one rule for the five routes."""

from __future__ import annotations

import flask
import pytest

from blueprints.native.answers import stream_type

SSE, NDJSON = "text/event-stream", "application/x-ndjson"


@pytest.mark.parametrize(
    ("accept", "output_format", "form"),
    [
        (None, "default", None),
        (None, "text", None),
        (None, "json", None),
        (None, "stream-json", NDJSON),
        ("*/*", "default", None),
        ("text/*", "default", None),
        ("application/json", "stream-json", NDJSON),
        (SSE, "default", SSE),
        (SSE, "stream-json", SSE),
        (f"{SSE};q=0", "default", None),
        (f"{SSE};q=0", "stream-json", NDJSON),
        (f"{SSE};q=0, {NDJSON}", "default", NDJSON),
        (f"application/json, {SSE};q=0.1", "default", SSE),
        (f"{SSE}; charset=utf-8", "default", SSE),
        ("Text/Event-Stream", "default", SSE),
        (NDJSON, "default", NDJSON),
        (NDJSON, "json", NDJSON),
        (f"{NDJSON};q=0", "default", None),
        (f"{NDJSON}, {SSE}", "default", SSE),
    ],
)
def test_accept_chooses_first_and_then_the_output_format(accept: str | None, output_format: str, form: str | None) -> None:
    with flask.Flask("any").test_request_context(headers={"Accept": accept} if accept else {}):
        assert stream_type([output_format]) == form
