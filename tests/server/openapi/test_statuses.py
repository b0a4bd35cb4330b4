"""Every status that the document names can be provoked, and every one that is provoked is named: both, operation by operation."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from gevent.event import Event

from app.api.openapi import EXAMPLES
from app.config.schema import SessionSettings, Settings
from app.factory import create_app
from blueprints.openai.responses.ids import new_id
from services.access.key_ring import KeyRing
from tests.parts.clis import do
from tests.parts.house import House, open_house
from tests.parts.keys import ring_of
from tests.parts.processes import eventually
from tests.parts.rpc import STATELESS, Speaker
from tests.unit.app.parts import ask, make_app, shared_app

KEY = "a-key-of-the-tests-0123456789"
METHODS = {"get", "post", "delete"}
MCP = "/mcp"
UNKNOWN = "00000000-0000-0000-0000-000000000000"


@cache
def documented() -> dict[tuple[str, str], Any]:
    paths = ask(shared_app(), "/openapi.json").get_json()["paths"]
    return {(m.upper(), path): one for path, item in paths.items() for m, one in item.items() if m in METHODS}


OPERATIONS = sorted(documented())


def is_open(operation: tuple[str, str]) -> bool:
    return documented()[operation].get("security") == []


def ask_for(app: Flask, operation: tuple[str, str], **more: Any) -> int:
    method, path = operation
    body = {"json": {}} if method == "POST" and not {"data", "input_stream", "json"} & more.keys() else {}
    return int(ask(app, re.sub(r"{\w+}", "x", path), method=method, **body, **more).status_code)


# What happens to a request before its view, so to all of them.


def without_a_key(operation: tuple[str, str]) -> int:
    return ask_for(shared_app(KEY), operation)


def from_another_host(operation: tuple[str, str]) -> int:
    return ask_for(shared_app(), operation, headers={"Host": "evil.example"})


def with_a_long_body(operation: tuple[str, str]) -> int:
    return ask_for(shared_app(max_request_body_bytes=10), operation, data=b"[1, 2, 3, 4]", content_type="application/json")


def with_text(operation: tuple[str, str]) -> int:
    return ask_for(shared_app(), operation, data="hello", content_type="text/plain")


def with_a_body_that_never_comes(operation: tuple[str, str]) -> int:
    stalled = SimpleNamespace(read=lambda *_: Event().wait(), readline=lambda *_: Event().wait())
    environ = {"wsgi.input": stalled, "CONTENT_LENGTH": "5", "REMOTE_ADDR": "127.0.0.1"}
    app = shared_app(read_timeout_secs=0.05)
    return ask_for(app, operation, data=b"", content_type="application/json", environ_overrides=environ)


def meeting_a_bug(operation: tuple[str, str]) -> int:
    app = make_app()
    app.before_request(lambda: {}["a bug"])
    return ask_for(app, operation)


def twice_in_a_row(operation: tuple[str, str]) -> int:
    app = make_app(rate_limit_enabled=True, rate_limit_burst=1, rate_limit_rps=0.01)
    body = {"json": EXAMPLES[MCP]} if operation[1] == MCP else {}  # there the body says whether a CLI runs
    ask_for(app, operation, **body)
    return ask_for(app, operation, **body)


GENERAL: dict[int, Callable[[tuple[str, str]], int]] = {
    401: without_a_key,
    403: from_another_host,
    408: with_a_body_that_never_comes,
    413: with_a_long_body,
    415: with_text,
    429: twice_in_a_row,
    500: meeting_a_bug,
}


@pytest.mark.parametrize("status", GENERAL)
@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_what_any_route_may_answer_is_documented_where_it_does(operation: tuple[str, str], status: int) -> None:
    assert (GENERAL[status](operation) == status) == (str(status) in documented()[operation]["responses"])


# What a view itself answers.


@dataclass(frozen=True)
class World:
    """A server with scripted CLIs, ``house``; applications whose session store is broken and with a key; and sessions in certain states."""

    house: House
    storeless: Flask
    keyed: Flask
    """An application with an admin's key."""
    ambiguous: str
    """With what two sessions begin."""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> int:
        name_headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.house.server.client.ask(method, path, body, name_headers).status

    def ask_keyed(self, method: str, path: str, body: Any = None) -> int:
        return int(ask(self.keyed, path, ROOT_KEY, method=method, json=body).status_code)

    def new_key(self) -> str:
        """Its name."""
        return str(ask(self.keyed, KEYS, ROOT_KEY, method="POST", json={}).json["name"])

    def new_session(self) -> str:
        return str(self.house.server.client.post("/api/v1/sessions", {"backend": "claude"}).json["id"])

    def ask_busy(self, method: str, path: str, body: Any = None) -> int:
        """Ask of a session that is running a turn: ``{}`` in ``path``, or the header, is its id."""
        hanging = {"backend": "claude", "prompt": do(["say", "so far"], ["hang"]), "output_format": "stream-json"}
        with self.house.server.client.open("POST", "/api/v1/prompt", hanging) as stream:
            busy = next(stream.lines()).json["session_id"]
            return self.ask(method, path.format(busy), body, X_Clinvk_Session=busy)

    def ask_twice(self, path: str, body: Mapping[str, Any], other: Mapping[str, Any]) -> int:
        """Ask with ``body``, then with another body and the same idempotency key."""
        key = uuid.uuid4().hex
        self.ask("POST", path, dict(body), Idempotency_Key=key)
        return self.ask("POST", path, dict(other), Idempotency_Key=key)

    def new_run(self, *steps: Any) -> str:
        """The id of a background run."""
        body = {"backend": "claude", "prompt": do(*steps), "background": True}
        return str(self.house.server.client.post("/api/v1/prompt", body).json["id"])

    def ended_run(self) -> str:
        run_id = self.new_run(["say", "done"])
        assert self.house.server.client.get(f"{RUNS}/{run_id}?wait=30").json["status"] == "completed"
        return run_id

    def running_run(self) -> str:
        run_id = self.new_run(["say", "so far"], ["hang"])
        eventually(lambda: self.house.server.client.get(f"{RUNS}/{run_id}").json["status"] == "running")
        return run_id

    def delete_running(self) -> int:
        run_id = self.running_run()
        status = self.ask("DELETE", f"{RUNS}/{run_id}")
        self.ask("POST", f"{RUNS}/{run_id}/cancel")
        return status

    def expired_run(self) -> str:
        """A run whose events were deleted."""
        run_id = self.ended_run()
        self.execute(f"UPDATE runs SET are_events_expired = 1 WHERE id = '{run_id}'")
        return run_id

    def response(self, *, running: bool = False, expired: bool = False, **more: Any) -> str:
        """The path of a stored response. ``expired``: its events were deleted."""
        prompt = do(["say", "so far"], ["hang"]) if running else "hello"
        id = self.house.server.client.post("/openai/v1/responses", response(prompt, **more)).json["id"]
        if expired:
            self.execute("UPDATE runs SET are_events_expired = 1 WHERE kind = 'response'")
        return f"/openai/v1/responses/{id}"

    def unknown_response(self) -> str:
        """An id that the application without a store has signed."""
        return new_id(self.storeless.extensions["clinvk"].secret.value(), "resp_", "demo", None, owner="local")

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.house.server.clinvk_home / "sessions.db")) as database, database:
            database.execute(statement)

    def delete_stuck(self) -> int:
        """Delete a response that does not end when it is cancelled: no process executes it."""
        path = self.response()
        run_id = self.house.server.client.get(path).headers["X-Clinvk-Run-Id"]
        columns = "status = 'running', ended_at = NULL, terminal_data = NULL"
        self.execute(f"UPDATE runs SET {columns} WHERE id = '{run_id}'")
        status = self.ask("DELETE", path)
        self.execute(f"DELETE FROM runs WHERE id = '{run_id}'")
        return status

    def ask_storeless(self, method: str, path: str, given: Mapping[str, Any] | None = None, **headers: str) -> int:
        body = dict(given or EXAMPLES.get(path, {"prompt": "hi"})) if method == "POST" else None
        more = {"json": body} if body is not None else {}
        return int(
            ask(self.storeless, path, {name.replace("_", "-"): value for name, value in headers.items()}, method=method, **more).status_code
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("statuses")
    house = open_house(folder, House, request_timeout_secs=4, metrics_enabled=True)
    (folder / "sessions.db").write_text("somebody's shopping list, which is longer than a header")
    broken = Settings(home=str(folder), session=SessionSettings(database_url=f"sqlite:///{folder}/sessions.db"))
    storeless = create_app(broken, keys=KeyRing())
    keyed = create_app(Settings(home=str(tmp_path_factory.mktemp("keyed"))), keys=ring_of("root=any", role="admin"))
    client = house.server.client
    ids = [client.post("/api/v1/sessions", {"backend": "claude"}).json["id"] for _ in range(17)]  # a digit has 16 values
    ambiguous = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    yield World(house, storeless, keyed, ambiguous)
    house.server.stop()


Provocation = Callable[[World], int]


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "claude", "messages": [{"role": "user", "content": text}], "max_tokens": 9, **more}


def response(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "claude", "input": text, **more}


def of_a_session(method: str, tail: str = "", body: Any = None, *, works: int = 200) -> dict[int, Provocation]:
    at = "/api/v1/sessions/"
    return {
        works: lambda world: world.ask(method, f"{at}{world.new_session()}{tail}", body),
        404: lambda world: world.ask(method, f"{at}{UNKNOWN}{tail}", body),
        409: lambda world: world.ask(method, f"{at}{world.ambiguous}{tail}", body),
        503: lambda world: world.ask_storeless(method, f"{at}{UNKNOWN}{tail}"),
    }


def of_an_llm(path: str, to_body: Callable[..., dict[str, Any]], overloaded: int) -> dict[int, Provocation]:
    def failing(*step: Any) -> Provocation:
        return lambda world: world.ask("POST", path, to_body(do(["fail", *step])))

    return {
        200: lambda world: world.ask("POST", path, to_body("hello", model="demo")),
        400: lambda world: world.ask("POST", path, {}),
        404: failing("There's an issue with the selected model (x)", 404),
        409: lambda world: world.ask_busy("POST", path, to_body("hello")),
        429: failing("API Error: 429 rate limit reached", 429),
        502: failing("it broke", 500),
        503: lambda world: world.ask("POST", path, to_body("hello", model="codex")),
        overloaded: failing("API Error: 529 overloaded", 529),
        504: lambda world: world.ask("POST", path, to_body(do(["hang"]))),
    }


def of_several(path: str) -> dict[int, Provocation]:
    return {
        200: lambda world: world.ask("POST", path, EXAMPLES[path]),
        400: lambda world: world.ask("POST", path, {}),
        **of_a_run(path, EXAMPLES[path]),
    }


def of_a_run(path: str, body: Mapping[str, Any]) -> dict[int, Provocation]:
    """What a request that may run in the background, or with an idempotency key, is answered."""
    later = {**body, "background": True}
    return {
        202: lambda world: world.ask("POST", path, later),
        409: lambda world: world.ask_twice(path, body, later),
        503: lambda world: world.ask_storeless("POST", path, later),
    }


def of_an_ended_run(method: str, tail: str = "", *, works: int = 200) -> dict[int, Provocation]:
    return {
        works: lambda world: world.ask(method, f"{RUNS}/{world.ended_run()}{tail}"),
        404: lambda world: world.ask(method, f"{RUNS}/run_unknown{tail}"),
        503: lambda world: world.ask_storeless(method, f"{RUNS}/run_unknown{tail}"),
    }


def of_a_response(method: str, tail: str = "", **more: Any) -> dict[int, Provocation]:
    return {
        200: lambda world: world.ask(method, world.response(**more) + tail),
        404: lambda world: world.ask(method, f"{RESPONSE}/resp_unknown{tail}"),
        503: lambda world: world.ask_storeless(method, f"{RESPONSE}/{world.unknown_response()}{tail}"),
    }


def of_a_model(path: str) -> dict[int, Provocation]:
    return {
        200: lambda world: world.ask("GET", f"{path}/demo"),
        400: lambda world: world.ask("GET", f"{path}/%7C"),
        404: lambda world: world.ask("GET", f"{path}/no-such-model"),
    }


def reads(path: str) -> dict[int, Provocation]:
    return {200: lambda world: world.ask("GET", path)}


NATIVE = "/api/v1"
SESSION = "/api/v1/sessions/{session_id}"
RUNS = "/api/v1/runs"
KEYS = "/api/v1/keys"
ROOT_KEY = {"X-Api-Key": "any"}
RESPONSE = "/openai/v1/responses"
HANGING = {"backend": "claude", "prompt": do(["hang"]), "timeout_secs": 0.5}
COUNT = "/anthropic/v1/messages/count_tokens"

OWN: dict[tuple[str, str], dict[int, Provocation]] = {
    ("POST", f"{NATIVE}/prompt"): {
        200: lambda world: world.ask("POST", f"{NATIVE}/prompt", {"backend": "demo", "prompt": "hi"}),
        400: lambda world: world.ask("POST", f"{NATIVE}/prompt", {}),
        **of_a_run(f"{NATIVE}/prompt", {"backend": "demo", "prompt": "hi"}),
        504: lambda world: world.ask("POST", f"{NATIVE}/prompt", HANGING),
    },
    ("POST", f"{NATIVE}/parallel"): of_several(f"{NATIVE}/parallel"),
    ("POST", f"{NATIVE}/chain"): of_several(f"{NATIVE}/chain"),
    ("POST", f"{NATIVE}/compare"): of_several(f"{NATIVE}/compare"),
    ("GET", f"{NATIVE}/backends"): reads(f"{NATIVE}/backends"),
    ("GET", f"{NATIVE}/usage/plans"): reads(f"{NATIVE}/usage/plans"),
    ("GET", f"{NATIVE}/sessions"): {
        200: lambda world: world.ask("GET", f"{NATIVE}/sessions"),
        400: lambda world: world.ask("GET", f"{NATIVE}/sessions?limit=x"),
        503: lambda world: world.ask_storeless("GET", f"{NATIVE}/sessions"),
    },
    ("POST", f"{NATIVE}/sessions"): {
        201: lambda world: world.ask("POST", f"{NATIVE}/sessions", {}),
        400: lambda world: world.ask("POST", f"{NATIVE}/sessions", {"backend": "none"}),
        503: lambda world: world.ask_storeless("POST", f"{NATIVE}/sessions"),
    },
    ("GET", SESSION): of_a_session("GET"),
    ("DELETE", SESSION): of_a_session("DELETE") | {409: lambda world: world.ask_busy("DELETE", "/api/v1/sessions/{}")},
    ("POST", f"{SESSION}/fork"): of_a_session("POST", "/fork", {}, works=201)
    | {
        400: lambda world: world.ask("POST", f"{NATIVE}/sessions/{world.new_session()}/fork", {"nothing": 1}),
        503: lambda world: ask(world.storeless, f"{NATIVE}/sessions/{UNKNOWN}/fork", method="POST", json={}).status_code,
    },
    ("POST", f"{SESSION}/resume"): of_a_session("POST", "/resume", {"prompt": "hi"})
    | {
        202: lambda world: world.ask("POST", f"{NATIVE}/sessions/{world.new_session()}/resume", {"prompt": "hi", "background": True}),
        400: lambda world: world.ask("POST", f"{NATIVE}/sessions/{world.new_session()}/resume", {}),
        504: lambda world: world.ask("POST", f"{NATIVE}/sessions/{world.new_session()}/resume", HANGING),
    },
    ("GET", f"{SESSION}/turns"): of_a_session("GET", "/turns")
    | {400: lambda world: world.ask("GET", f"{NATIVE}/sessions/{UNKNOWN}/turns?limit=x")},
    ("GET", RUNS): {
        200: lambda world: world.ask("GET", RUNS),
        400: lambda world: world.ask("GET", f"{RUNS}?limit=0"),
        503: lambda world: world.ask_storeless("GET", RUNS),
    },
    ("GET", f"{RUNS}/{{run_id}}"): of_an_ended_run("GET") | {400: lambda world: world.ask("GET", f"{RUNS}/run_unknown?wait=x")},
    ("GET", f"{RUNS}/{{run_id}}/events"): of_an_ended_run("GET", "/events")
    | {
        204: lambda world: world.ask("GET", f"{RUNS}/{world.ended_run()}/events", Last_Event_ID="1000"),
        400: lambda world: world.ask("GET", f"{RUNS}/{world.ended_run()}/events", Last_Event_ID="x"),
        410: lambda world: world.ask("GET", f"{RUNS}/{world.expired_run()}/events"),
    },
    ("POST", f"{RUNS}/{{run_id}}/cancel"): of_an_ended_run("POST", "/cancel")
    | {202: lambda world: world.ask("POST", f"{RUNS}/{world.running_run()}/cancel")},
    ("DELETE", f"{RUNS}/{{run_id}}"): of_an_ended_run("DELETE", works=204) | {409: lambda world: world.delete_running()},
    ("GET", f"{NATIVE}/usage"): {
        200: lambda world: world.ask("GET", f"{NATIVE}/usage"),
        400: lambda world: world.ask("GET", f"{NATIVE}/usage?group_by=colour"),
        503: lambda world: world.ask_storeless("GET", f"{NATIVE}/usage"),
    },
    ("POST", "/openai/v1/chat/completions"): of_an_llm("/openai/v1/chat/completions", chat, 503),
    ("POST", "/openai/v1/responses"): of_an_llm("/openai/v1/responses", response, 503),
    ("GET", f"{RESPONSE}/{{response_id}}"): of_a_response("GET")
    | {
        400: lambda world: world.ask("GET", world.response() + "?stream=true&starting_after=x"),
        410: lambda world: world.ask("GET", world.response(expired=True) + "?stream=true"),
    },
    ("POST", f"{RESPONSE}/{{response_id}}/cancel"): of_a_response("POST", "/cancel", running=True, background=True)
    | {400: lambda world: world.ask("POST", world.response() + "/cancel")},
    ("DELETE", f"{RESPONSE}/{{response_id}}"): of_a_response("DELETE") | {409: lambda world: world.delete_stuck()},
    ("GET", f"{RESPONSE}/{{response_id}}/input_items"): of_a_response("GET", "/input_items")
    | {400: lambda world: world.ask("GET", world.response() + "/input_items?limit=0")},
    ("GET", "/openai/v1/models"): reads("/openai/v1/models") | {400: lambda world: world.ask("GET", "/openai/v1/models?all=x")},
    ("GET", "/openai/v1/models/{model}"): of_a_model("/openai/v1/models"),
    ("POST", "/anthropic/v1/messages"): of_an_llm("/anthropic/v1/messages", chat, 529),
    ("POST", COUNT): {
        200: lambda world: world.ask("POST", COUNT, chat("hi")),
        400: lambda world: world.ask("POST", COUNT, {}),
        404: lambda world: world.ask("POST", COUNT, chat("hi"), X_Clinvk_Session=UNKNOWN),
        409: lambda world: world.ask("POST", COUNT, chat("hi"), X_Clinvk_Session=world.ambiguous),
        503: lambda world: world.ask_storeless("POST", COUNT, X_Clinvk_Session=UNKNOWN),
    },
    ("GET", "/anthropic/v1/models"): {
        200: lambda world: world.ask("GET", "/anthropic/v1/models"),
        400: lambda world: world.ask("GET", "/anthropic/v1/models?limit=x"),
        404: lambda world: world.ask("GET", "/anthropic/v1/models?after_id=x"),
    },
    ("GET", "/anthropic/v1/models/{model}"): of_a_model("/anthropic/v1/models"),
    ("GET", KEYS): {
        200: lambda world: world.ask_keyed("GET", KEYS),
        503: lambda world: world.ask_storeless("GET", KEYS),
    },
    ("POST", KEYS): {
        201: lambda world: world.ask_keyed("POST", KEYS, {}),
        400: lambda world: world.ask_keyed("POST", KEYS, {"role": "root"}),
        409: lambda world: world.ask_keyed("POST", KEYS, {"name": "root"}),
        503: lambda world: world.ask_storeless("POST", KEYS),
    },
    ("DELETE", f"{KEYS}/{{name}}"): {
        204: lambda world: world.ask_keyed("DELETE", f"{KEYS}/{world.new_key()}"),
        404: lambda world: world.ask_keyed("DELETE", f"{KEYS}/nobody"),
        409: lambda world: world.ask_keyed("DELETE", f"{KEYS}/root"),
        503: lambda world: world.ask_storeless("DELETE", f"{KEYS}/nobody"),
    },
    ("POST", MCP): {
        200: lambda world: world.ask("POST", MCP, EXAMPLES[MCP]),
        202: lambda world: world.ask("POST", MCP, {"jsonrpc": "2.0", "method": "notifications/initialized"}),
        400: lambda world: world.ask("POST", MCP, {}),
        404: lambda world: world.ask(
            "POST",
            MCP,
            Speaker(world.house.server.client, STATELESS).message("no/such/method"),
            Mcp_Protocol_Version=STATELESS,
            Mcp_Method="no/such/method",
        ),
    },
    ("GET", "/health"): reads("/health") | {503: lambda world: world.ask_storeless("GET", "/health")},
    ("GET", "/api/v1/health"): reads("/api/v1/health") | {503: lambda world: world.ask_storeless("GET", "/api/v1/health")},
    ("GET", "/openapi.json"): reads("/openapi.json"),
    ("GET", "/"): reads("/") | {302: lambda world: world.ask("GET", "/", Accept="text/html")},
    ("GET", "/metrics"): reads("/metrics") | {404: lambda _: ask(shared_app(), "/metrics").status_code},
}
"""By operation and status, a request that is answered so."""


@pytest.mark.parametrize(
    ("operation", "status"),
    [pytest.param(operation, status, id=f"{' '.join(operation)} {status}") for operation, own in OWN.items() for status in own],
)
def test_status_can_be_provoked(operation: tuple[str, str], status: int, world: World) -> None:
    assert OWN[operation][status](world) == status


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_statuses_of_the_document_are_those_that_can_be_provoked(operation: tuple[str, str]) -> None:
    named = {int(status) for status in documented()[operation]["responses"]}
    assert named - GENERAL.keys() == OWN[operation].keys() - GENERAL.keys()
