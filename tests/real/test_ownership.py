"""Another caller's attempts on everything that one has, with the real CLIs: none succeeds, none tells that the thing exists, and the
model hears of none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Rig
from tests.parts.client import Client
from tests.parts.clis import NO_WAY_OUT, REAL_CLIS, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.ownership.attempts import ATTEMPTS, BY
from tests.parts.ownership.things import WORD, Agent, Things, things_of
from tests.parts.ownership.trials import blind, browsed, told
from tests.parts.server import Server

KEYS = {"ada": "key-of-ada-0123456789", "bob": "key-of-bob-0123456789"}
WARM = {"max": 3}
"""Session-bound processes of Claude Code, one process of Codex for all, processes of Gemini CLI that wait for anybody's run."""


@dataclass(frozen=True)
class Place:
    api: FakeModelApi
    ada: Client
    bob: Client
    things: Things


@pytest.fixture(scope="module")
def keyed_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("keyed")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in REAL_CLIS}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    settings = {"api_keys": [f"{name}={key}" for name, key in KEYS.items()]}
    server = Server(folder, {"backends": {name: cli.backend | {"warm": WARM} for name, cli in clis.items()}, "server": settings}, env)
    yield Rig(server, api, clis)
    try:
        server.stop()
    finally:
        api.stop()


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in REAL_CLIS])
def place(request: pytest.FixtureRequest, keyed_rig: Rig) -> Iterator[Place]:
    require(request.param)
    api = keyed_rig.api
    api.forget()
    api.script("endless", Reply(hang=True))
    api.script("question", Reply(text=f"an answer about {WORD}"))
    ada, bob = (Client(keyed_rig.server.url, {"Authorization": f"Bearer {key}"}) for key in KEYS.values())
    agent = Agent(request.param, ask=lambda word: f"question about {word}", endless=lambda word: f"endless talk about {word}")
    with things_of(ada, agent) as things:
        yield Place(api, ada, bob, things)


@pytest.mark.smoke
def test_no_attempt_succeeds_and_none_tells_that_a_thing_exists(place: Place) -> None:
    assert told(place.bob, place.things) == []
    assert browsed(place.bob, place.things) == []
    assert not place.api.about(BY)
    looks = [attempt for attempt in ATTEMPTS if attempt.method in ("GET", "HEAD") or "dry_run" in (attempt.body or {})]
    assert blind(place.ada, place.things, looks) == []
