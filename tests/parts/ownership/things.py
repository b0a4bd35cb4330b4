"""What one caller has on a server, made over HTTP, and twins of its ids that do not exist."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from services.store import cursors
from tests.parts.client import Answer, Client
from tests.parts.processes import eventually

WORD = "zanzibar"
"""In every prompt, title and tag of the owner."""
NEVER_SAID = "timbuktu"

Things = Mapping[str, str]


@dataclass(frozen=True)
class Agent:
    """``ask``: a prompt that is answered, with this word in it; ``endless``: one whose run does not end by itself."""

    backend: str
    ask: Callable[[str], str]
    endless: Callable[[str], str]


@contextmanager
def things_of(client: Client, agent: Agent) -> Iterator[Things]:
    """What ``client`` has. Its runs that go on end with the block."""
    began = _ok(client.prompt(agent.backend, agent.ask(WORD), title=f"about {WORD}", tags=[WORD]))
    session = began.json["session_id"]
    busy = _background(client, agent, agent.endless(WORD))
    eventually(lambda: _show(client, busy)["status"] == "running" and _show(client, busy)["session_id"])
    response = _ok(client.post("/openai/v1/responses", {"model": agent.backend, "input": agent.ask(WORD)}))
    continued = {"X-Clinvk-Session": session}
    in_session = _ok(client.post("/openai/v1/responses", {"model": agent.backend, "input": agent.ask(WORD)}, headers=continued))
    asked = {"model": agent.backend, "input": agent.endless(WORD), "background": True}
    busy_response = _ok(client.post("/openai/v1/responses", asked))
    eventually(lambda: client.get(f"/openai/v1/responses/{busy_response.json['id']}").json["status"] == "in_progress")
    run = _background(client, agent, agent.ask(WORD))
    assert client.get(f"/api/v1/runs/{run}?wait=60").json["status"] == "completed"
    with client.prompt_stream(agent.backend, agent.endless(WORD), ephemeral=True) as live:
        assert live.status == 200
        yield {
            "backend": agent.backend,
            "word": WORD,
            "session": session,
            "prefix": session[:8],
            "upper": session.upper(),
            "busy_session": _show(client, busy)["session_id"],
            "run": run,
            "busy_run": busy,
            "live_run": live.headers["X-Clinvk-Run-Id"],
            "response_run": response.headers["X-Clinvk-Run-Id"],
            "response": response.json["id"],
            "item": response.json["output"][-1]["id"],
            "turn_response": in_session.json["id"],
            "turn_item": in_session.json["output"][-1]["id"],
            "busy_response": busy_response.json["id"],
            "sessions_cursor": client.get("/api/v1/sessions?limit=1").json["next_cursor"],
            "found_cursor": client.get(f"/api/v1/sessions?limit=1&q={WORD}").json["next_cursor"],
            "runs_cursor": client.get("/api/v1/runs?limit=1").json["next_cursor"],
            "owner": "ada",
        }
    for path in (f"/api/v1/runs/{busy}", f"/openai/v1/responses/{busy_response.json['id']}"):
        assert client.post(f"{path}/cancel", None).status in (200, 202)


def twins_of(things: Things) -> Things:
    """The same names, with what does not exist."""
    session = str(uuid.uuid4())
    sessions = {"session": session, "prefix": session[:8], "upper": session.upper()}
    return sessions | {name: TWINS.get(name, _twin)(value) for name, value in things.items() if name not in sessions}


def _twin(id: str) -> str:
    prefix, _, rest = id.partition("_")
    if prefix == "run":
        return f"run_{uuid.uuid4().hex[: len(rest)]}"
    return f"{prefix}_{rest[:6]}{'A' if rest[6] != 'A' else 'B'}{rest[7:]}"


TWINS: Mapping[str, Callable[[str], str]] = {
    "backend": lambda backend: backend,
    "word": lambda _: NEVER_SAID,
    "busy_session": lambda _: str(uuid.uuid4()),
    "sessions_cursor": lambda _: cursors.encode("updated", 2**60, str(uuid.uuid4())),
    "found_cursor": lambda _: cursors.encode("found", 2**40),
    "runs_cursor": lambda _: cursors.encode("created", 2**60, "run_0"),
    "owner": lambda _: "eve",
}

VARYING = re.compile(r'"(?:request_id|timestamp)":\s*"[^"]*"|req_[0-9a-f]+')


def comparable(answer: Answer, sent: Things) -> tuple[int, dict[str, str], str]:
    """All of an answer but its time, its request's id, and what it repeats of ``sent``."""
    head = {name.lower(): value for name, value in answer.headers.items()}
    for name in ("date", "x-request-id", "request-id", "content-length"):
        head.pop(name, None)
    body = VARYING.sub("", answer.body.decode())
    for name, value in sorted(sent.items(), key=lambda item: -len(item[1])):
        body = body.replace(value, f"<{name}>") if name not in ("backend", "owner") else body
    return answer.status, head, body


def filled(template: Any, things: Things) -> Any:
    """``template`` with the values of ``things`` in its texts."""
    match template:
        case str():
            return template.format_map(things)
        case dict():
            return {name: filled(value, things) for name, value in template.items()}
        case list():
            return [filled(value, things) for value in template]
    return template


def _ok(answer: Answer) -> Answer:
    assert answer.status == 200, answer.body
    return answer


def _background(client: Client, agent: Agent, prompt: str) -> str:
    answer = client.prompt(agent.backend, prompt, background=True, title=f"about {WORD}", tags=[WORD])
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def _show(client: Client, run: str) -> Any:
    return client.get(f"/api/v1/runs/{run}").json
