"""Another caller's attempts on everything that one has, with the scripted CLI: none succeeds, and none tells that the thing exists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.ownership.attempts import ATTEMPTS, BY, KEYED
from tests.parts.ownership.things import WORD, Agent, Things, things_of
from tests.parts.ownership.trials import blind, browsed, told
from tests.parts.server import Server

KEYS = {"ada": "key-of-ada-0123456789", "bob": "key-of-bob-0123456789"}
BACKENDS: dict[str, Any] = {
    "a process for each run": lambda cli: {"claude": cli.backend(env=cli.keeping, warm={"max": 0})},
    "processes of a session": lambda cli: {"claude": cli.backend("--stays", env=cli.keeping, warm={"max": 3, "min": 1})},
    "a shared process": lambda cli: {"codex": cli.app_server(env={"CODEX_HOME": str(cli.folder)}, warm={"max": 2})},
}
"""How a backend's processes serve several callers."""


@dataclass(frozen=True)
class Place:
    server: Server
    cli: FakeCli
    ada: Client
    bob: Client
    things: Things


@pytest.fixture(scope="module", params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("ownership")
    cli = FakeCli(folder / "reports")
    cli.folder.mkdir(exist_ok=True)
    backends = BACKENDS[request.param](cli)
    keys = [f"{name}={key}" for name, key in KEYS.items()]
    server = Server(folder, {"default_backend": "demo", "backends": backends, "server": {"api_keys": keys, "log_level": "debug"}})
    ada, bob = (Client(server.url, {"Authorization": f"Bearer {key}"}) for key in KEYS.values())
    (backend,) = backends
    agent = Agent(backend, ask=lambda word: f"{word}", endless=lambda word: do(["say", word], ["hang"], about=word))
    with things_of(ada, agent) as things:
        yield Place(server, cli, ada, bob, things)
    server.stop()


def test_no_attempt_succeeds_and_none_tells_that_a_thing_exists(place: Place) -> None:
    assert len(ATTEMPTS) >= 60
    before = state(place)
    assert told(place.bob, place.things) == []
    assert browsed(place.bob, place.things) == []
    assert not [report for report in place.cli.reports() if BY in json.dumps(report)]
    assert state(place) == before


def test_to_their_owner_the_same_requests_are_about_something(place: Place) -> None:
    assert blind(place.ada, place.things) == []


def test_an_idempotency_key_is_ones_own(place: Place) -> None:
    for path, body in KEYED.items():
        key = {"Idempotency-Key": f"one for {path}"}
        first, again, other = (client.post(path, body, headers=key) for client in (place.ada, place.ada, place.bob))
        assert (first.status, again.status, other.status) == (200, 200, 200), path
        assert again.headers["X-Clinvk-Run-Id"] == first.headers["X-Clinvk-Run-Id"] != other.headers["X-Clinvk-Run-Id"]
        assert (again.headers["Idempotent-Replayed"], other.headers["Idempotent-Replayed"]) == ("true", None)
        assert place.bob.post(path, body | {"unused": 1, "user": "x"}, headers=key).status in (400, 409)


def test_a_session_is_forked_and_deleted_by_its_owner_alone(place: Place) -> None:
    made = place.ada.prompt(place.things["backend"], f"{WORD} again").json["session_id"]
    fork = place.ada.post(f"/api/v1/sessions/{made}/fork", {}).json["id"]
    for id in (made, fork):
        path = f"/api/v1/sessions/{id}"
        assert place.ada.ask("DELETE", path[:-1]).status == place.bob.ask("DELETE", path).status == 404
        assert place.ada.ask("DELETE", path).status == 200


def state(place: Place) -> Any:
    """What the owner has."""
    ids = place.things
    sessions = [place.ada.get(f"/api/v1/sessions/{ids[name]}").json for name in ("session", "busy_session")]
    runs = [place.ada.get(f"/api/v1/runs/{ids[name]}").json for name in ("run", "busy_run", "live_run", "response_run")]
    responses = [place.ada.get(f"/openai/v1/responses/{ids[name]}").json for name in ("response", "turn_response", "busy_response")]
    listed = [place.ada.get(path).json for path in ("/api/v1/sessions", "/api/v1/runs")]
    for one in (*sessions, *runs, *listed):
        del one["meta"]
    return sessions, runs, responses, listed
