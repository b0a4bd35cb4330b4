"""The table of attempts of one caller on what is another's. Each is compared with the same request on what does not exist.

A new route comes here, or into `NOTHING_OWNED` with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

BY = "tried-by-another"
"""In every prompt of an attempt: none may reach a CLI."""

SESSION, PREFIX, UPPER, BUSY = "{session}", "{prefix}", "{upper}", "{busy_session}"
SESSIONS = (SESSION, PREFIX, UPPER, BUSY)
RUNS = ("{run}", "{busy_run}", "{live_run}", "{response_run}")
RESPONSES = ("{response}", "{turn_response}", "{busy_response}")
NO_RESPONSES = ("{item}", "{run}", "{session}")
"""Ids of other kinds in the place of a response's."""
ITEMS = ("{item}", "{turn_item}")


@dataclass(frozen=True)
class Attempt:
    """``path``, ``body`` and ``headers`` have the names of things in braces. ``destroys``: its owner would lose something by it.
    ``is_refused``: its owner gets the answer of an unknown thing, too."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    destroys: bool = False
    is_refused: bool = False

    def __str__(self) -> str:
        more = [f"{name}: {value}" for name, value in self.headers.items()]
        more += [f"{name}={value}" for name, value in (self.body or {}).items() if name not in ("model", "messages", "prompt")]
        return " ".join([self.method, self.path, *more])[:150]


def _sessions() -> Iterator[Attempt]:
    turn = {"prompt": BY}
    for id in SESSIONS:
        path = f"/api/v1/sessions/{id}"
        yield Attempt("GET", path)
        yield Attempt("HEAD", path)
        yield Attempt("GET", f"{path}/turns")
        yield Attempt("GET", f"{path}/turns?after=0&limit=1")
        yield Attempt("POST", f"{path}/fork", {"title": BY})
        yield Attempt("POST", f"{path}/fork", {"metadata": {"a": BY}, "tags": [BY]})
        for more in (
            {},
            {"output_format": "stream-json"},
            {"background": True},
            {"dry_run": True},
            {"rebuild": True},
            {"backend": "nobody"},
            {"workdir": "/etc"},
            {"metadata": {str(number): "" for number in range(64)}},
            {"priority": 1},
            {"timeout_secs": 1, "background": True, "webhook": {"url": "https://127.0.0.1/", "secret": f"whsec_{'A' * 32}"}},
        ):
            yield Attempt("POST", f"{path}/resume", turn | more)
        yield Attempt("POST", f"{path}/resume", turn, {"Idempotency-Key": "one"})
        yield Attempt("POST", f"{path}/resume", turn, {"Prefer": "respond-async"})
        yield Attempt("POST", f"{path}/resume", turn, {"Accept": "text/event-stream"})
        yield Attempt("DELETE", path, destroys=id != BUSY, is_refused=id == PREFIX)
        yield Attempt("POST", f"{path}/resume", {"prompt": "", "no": "field"}, is_refused=True)
        yield Attempt("POST", f"{path}/resume", {"prompt": 5}, is_refused=True)


def _sessions_of_compatible_surfaces() -> Iterator[Attempt]:
    """The header of a session, on every route and spelling that takes it."""
    said = [{"role": "user", "content": BY}]
    chat = {"model": "{backend}", "messages": said}
    message = chat | {"max_tokens": 100}
    response = {"model": "{backend}", "input": BY}
    for id in SESSIONS:
        named = {"X-Clinvk-Session": id}
        for path, body in (
            ("/openai/v1/chat/completions", chat),
            ("/v1/chat/completions", chat),
            ("/anthropic/v1/messages", message),
            ("/v1/messages", message),
            ("/openai/v1/responses", response),
            ("/responses", response),
        ):
            yield Attempt("POST", path, body, named)
            yield Attempt("POST", path, body | {"stream": True}, named)
        yield Attempt("POST", "/anthropic/v1/messages/count_tokens", {"model": "{backend}", "messages": said}, named)
        yield Attempt("POST", "/openai/v1/responses", response | {"background": True}, named)
        yield Attempt("POST", "/openai/v1/responses", response | {"store": False}, named)
        yield Attempt("POST", "/openai/v1/chat/completions", chat, named | {"Idempotency-Key": "two"})
        yield Attempt("POST", "/openai/v1/chat/completions", chat | {"response_format": {"type": "json_object"}}, named)
        yield Attempt("POST", "/openai/v1/chat/completions", chat | {"temperature": "hot"}, named, is_refused=True)


def _runs() -> Iterator[Attempt]:
    for id in RUNS:
        path, is_live = f"/api/v1/runs/{id}", id == "{live_run}"
        yield Attempt("GET", path)
        yield Attempt("HEAD", path)
        yield Attempt("GET", f"{path}?wait=0.01")
        yield Attempt("GET", f"{path}?wait=later", is_refused=True)
        for query in ("?after=1000000", "?after=0") if id in ("{run}", "{response_run}") else ():
            yield Attempt("GET", f"{path}/events{query}")
            yield Attempt("GET", f"{path}/events{query}", headers={"Accept": "application/x-ndjson"})
            yield Attempt("GET", f"{path}/events{query}", headers={"Last-Event-ID": "1"})
        if id in ("{busy_run}", "{live_run}"):
            yield Attempt("GET", f"{path}/events", destroys=True, is_refused=is_live)
        yield Attempt("POST", f"{path}/cancel", destroys=True)
        yield Attempt("DELETE", path, destroys=True)


def _responses() -> Iterator[Attempt]:
    asked = {"model": "{backend}", "input": BY}
    for base in ("/openai/v1/responses", "/v1/responses"):
        for id in (*RESPONSES, *NO_RESPONSES):
            path, is_none = f"{base}/{id}", id in NO_RESPONSES
            yield Attempt("GET", path, is_refused=is_none)
            if id != "{busy_response}":
                yield Attempt("GET", f"{path}?stream=true", is_refused=is_none)
                yield Attempt("GET", f"{path}?stream=true&starting_after=1", is_refused=is_none)
            yield Attempt("GET", f"{path}/input_items", is_refused=is_none)
            yield Attempt("GET", f"{path}/input_items?limit=1&order=asc", is_refused=is_none)
            yield Attempt("POST", f"{path}/cancel", destroys=True, is_refused=is_none)
            yield Attempt("DELETE", path, destroys=True, is_refused=is_none)
    for id in (*RESPONSES, "{item}"):
        continued = asked | {"previous_response_id": id}
        is_none = id == "{item}"
        for more in ({}, {"stream": True}, {"background": True}, {"store": False}):
            yield Attempt("POST", "/openai/v1/responses", continued | more, is_refused=is_none)
        yield Attempt("POST", "/openai/v1/responses", continued | {"model": "demo"}, is_refused=is_none)
        yield Attempt("POST", "/openai/v1/responses", continued, {"Idempotency-Key": "three"}, is_refused=is_none)
        yield Attempt("POST", "/openai/v1/responses", continued | {"input": ""}, is_refused=is_none)
        yield Attempt("POST", "/openai/v1/responses", continued | {"temperature": "hot"}, is_refused=True)
    for id in (*ITEMS, "{response}"):
        items = [{"type": "item_reference", "id": id}, {"role": "user", "content": BY}]
        for more in ({}, {"stream": True}, {"background": True}):
            yield Attempt("POST", "/openai/v1/responses", {"model": "{backend}", "input": items, **more}, is_refused=id == "{response}")


def _lists() -> Iterator[Attempt]:
    """The same lists for what nobody has said: empty ones."""
    for query in (
        "q={word}",
        "q={word}&tag={word}",
        "tag={word}",
        "q={word}&backend={backend}",
        "q={word}&owner={owner}",
        "owner={owner}",
        "tag={word}&owner={owner}",
    ):
        yield Attempt("GET", f"/api/v1/sessions?{query}")
        yield Attempt("GET", f"/api/v1/sessions?{query}&limit=1")
    for query in ("session_id={session}", "session_id={busy_session}&status=running", "owner={owner}", "owner={owner}&kind=response"):
        yield Attempt("GET", f"/api/v1/runs?{query}")
    for path in (
        "/api/v1/sessions?cursor={sessions_cursor}",
        "/api/v1/sessions?q=about&cursor={found_cursor}",
        "/api/v1/runs?cursor={runs_cursor}",
    ):
        yield Attempt("GET", path)


def _tools() -> Iterator[Attempt]:
    """The tools of the MCP server that take an id."""

    def call(name: str, **arguments: Any) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}

    stream = {"Accept": "application/json, text/event-stream"}
    for id in SESSIONS:
        for more in ({}, {"backend": "nobody"}, {"workdir": "/etc"}, {"timeout_secs": 1}):
            yield Attempt("POST", "/mcp", call("prompt", prompt=BY, session_id=id, **more))
            yield Attempt("POST", "/mcp", call("submit", prompt=BY, session_id=id, **more))
        yield Attempt("POST", "/mcp", call("prompt", prompt=BY, session_id=id), stream)
        yield Attempt("POST", "/mcp", call("prompt", prompt=BY, session_id=id, tags=[BY]), is_refused=True)
    for id in RUNS:
        yield Attempt("POST", "/mcp", call("wait", run_id=id, timeout_secs=0.01))
        yield Attempt("POST", "/mcp", call("wait", run_id=id, timeout_secs=0.01), stream)
        yield Attempt("POST", "/mcp", call("cancel", run_id=id), destroys=True)


ATTEMPTS: tuple[Attempt, ...] = (
    *_sessions(),
    *_sessions_of_compatible_surfaces(),
    *_runs(),
    *_responses(),
    *_lists(),
    *_tools(),
)

BROWSED = (
    "/api/v1/sessions",
    "/api/v1/sessions?offset=1",
    "/api/v1/sessions?limit=200&status=running",
    "/api/v1/sessions?backend={backend}",
    "/api/v1/runs",
    "/api/v1/runs?status=running",
    "/api/v1/runs?status=completed&kind=response",
    "/api/v1/runs?limit=1",
)
"""Lists that have nothing for a caller who has nothing."""

CHAT = [{"role": "user", "content": "hello"}]
KEYED: Mapping[str, dict[str, Any]] = {
    "/api/v1/prompt": {"backend": "demo", "prompt": "hello"},
    "/api/v1/parallel": {"tasks": [{"backend": "demo", "prompt": "hello"}]},
    "/api/v1/chain": {"steps": [{"backend": "demo", "prompt": "hello"}]},
    "/api/v1/compare": {"backends": ["demo"], "prompt": "hello"},
    "/openai/v1/chat/completions": {"model": "demo", "messages": CHAT},
    "/openai/v1/responses": {"model": "demo", "input": "hello"},
    "/anthropic/v1/messages": {"model": "demo", "messages": CHAT, "max_tokens": 100},
}
"""Requests for a run with an idempotency key that another caller has used for the same one."""

SERVER = "says what the server has, not what a caller has"
PAGES = "a page, or a file of one"
PROBE = "an empty answer"
ADMINS = "for admins alone, whose keys see everything (tests/server/test_keys.py)"
NOTHING_OWNED: Mapping[str, str] = {
    "GET /": PAGES,
    "GET /docs": PAGES,
    "GET /docs/<name>": PAGES,
    "GET /docs/start.js": PAGES,
    "GET /openapi.json": PAGES,
    "GET /health": SERVER,
    "GET /api/v1/health": SERVER,
    "GET /metrics": SERVER,
    "GET /api/v1/backends": SERVER,
    "GET /openai/v1/models": SERVER,
    "GET /openai/v1/models/<path:model>": SERVER,
    "GET /anthropic/v1/models": SERVER,
    "GET /anthropic/v1/models/<path:model>": SERVER,
    "GET /api/v1/usage/plans": SERVER,
    "GET /api/v1/usage": "sums of its caller's own runs; another key's are refused, whether or not it exists (tests/server/test_usage.py)",
    "GET /api/v1/keys": ADMINS,
    "POST /api/v1/keys": ADMINS,
    "DELETE /api/v1/keys/<name>": ADMINS,
    "POST /api/v1/sessions": "makes a session of its caller's own",
    "POST /anthropic/api/event_logging/batch": PROBE,
    "GET /openai/v1/responses": "no WebSocket: an empty answer",
}
"""Routes that neither take nor return anything of a caller's, each with the reason."""
