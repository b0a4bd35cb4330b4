"""The end of a kept run that has none of its own, in the form of its surface."""

from __future__ import annotations

import orjson

from blueprints.anthropic.stream import to_terminal as to_message_terminal
from blueprints.openai.chat.answer import to_terminal as to_chat_terminal
from services.runs.record import Run, RunError

LOST = RunError(code="worker_lost", message="its process has ended")
RUN = Run(id="run_1", kind="chat", owner="anna", is_background=False, request_id="req_1", status="failed", created_at=0)


def test_a_lost_chat_ends_with_openai_s_error() -> None:
    chunk = to_chat_terminal(RUN, 4, LOST)
    assert (chunk.first, chunk.count) == (4, 1)
    found = orjson.loads(chunk.data.removeprefix(b"data: "))
    assert found == {"error": {"message": LOST.message, "type": "server_error", "param": None, "code": "worker_lost"}}


def test_a_lost_message_ends_with_anthropic_s_error() -> None:
    chunk = to_message_terminal(RUN, 4, LOST)
    assert (chunk.first, chunk.count) == (4, 1)
    head, _, data = chunk.data.partition(b"\ndata: ")
    assert head == b"event: error"
    assert orjson.loads(data) == {"type": "error", "error": {"type": "api_error", "message": LOST.message}, "request_id": "req_1"}
