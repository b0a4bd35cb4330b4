"""Session requests over HTTP for the tests."""

from __future__ import annotations

from typing import Any

from .client import Answer, Client
from .native import Event, events


def begin(client: Client, backend: str, prompt: str, **fields: Any) -> str:
    """The id of a new session with one answered turn."""
    answer = client.prompt(backend, prompt, **fields)
    assert answer.status == 200, answer.body
    return str(answer.json["session_id"])


def resume(client: Client, session_id: str, prompt: str, **fields: Any) -> Answer:
    return client.post(f"/api/v1/sessions/{session_id}/resume", {"prompt": prompt, **fields})


def resume_stream(client: Client, session_id: str, prompt: str, *, sse: bool = False, **fields: Any) -> list[Event]:
    """The events of a finished turn."""
    body = {"prompt": prompt, "output_format": "stream-json", **fields}
    path = f"/api/v1/sessions/{session_id}/resume"
    with client.open("POST", path, body, {"Accept": "text/event-stream"} if sse else None) as stream:
        assert stream.status == 200
        return events(stream.events() if sse else stream.lines())


def show(client: Client, session_id: str) -> Any:
    answer = client.get(f"/api/v1/sessions/{session_id}")
    assert answer.status == 200, answer.body
    return answer.json


def turns(client: Client, session_id: str) -> list[Any]:
    answer = client.get(f"/api/v1/sessions/{session_id}/turns")
    assert answer.status == 200, answer.body
    return list(answer.json["turns"])


def fork(client: Client, session_id: str, **fields: Any) -> Any:
    answer = client.post(f"/api/v1/sessions/{session_id}/fork", fields)
    assert answer.status == 201, answer.body
    assert answer.headers["Location"] == f"/api/v1/sessions/{answer.json['id']}"
    return answer.json
