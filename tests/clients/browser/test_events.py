"""A page that follows a run with the browser's own `EventSource`, and nothing else, while the server is killed and started again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.browser.chromium import Chromium
from tests.parts.client import Stream
from tests.parts.clis import FakeCli, do
from tests.parts.processes import alive, eventually
from tests.parts.server import Server, free_port

StartServer = Callable[..., Server]

# A server-sent event named `error` comes as an event without `data` from the browser where a connection breaks.
FOLLOW = """(() => {
    window.seen = [];
    window.source = new EventSource(%s);
    for (const name of ["init", "message", "token_usage", "restarted", "done", "error"])
        source.addEventListener(name, event => event.data && seen.push([Number(event.lastEventId), name, event.data]));
    return true;
})()"""


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path) as one:
        yield one


def stored(server: Server, path: str) -> list[list[Any]]:
    with server.client.open("GET", path) as stream:
        return [[int(arrival.id), arrival.name, arrival.data] for arrival in Stream.events(stream)]


@pytest.mark.parametrize(("on_worker_lost", "end"), [("fail", "error"), ("retry", "done")])
def test_a_page_sees_every_event_once_though_the_server_is_killed(
    server: StartServer, fake_cli: FakeCli, chromium: Chromium, tmp_path: Path, on_worker_lost: str, end: str
) -> None:
    config, port = {"backends": {"claude": fake_cli.backend()}}, ("--port", str(free_port()))
    house = server(config, args=port)
    may_end = tmp_path / "may end"
    prompt = do(["tokens", 5, 0.05], ["wait_for", str(may_end)], ["say", "at last"])
    asked = {"backend": "claude", "prompt": prompt, "background": True, "on_worker_lost": on_worker_lost}
    path = f"/api/v1/runs/{house.client.post('/api/v1/prompt', asked).json['id']}/events"
    assert not chromium.open(f"{house.url}/health")
    chromium.ask(FOLLOW % json.dumps(path))
    chromium.wait_for("seen.length >= 7")
    own = house.own()
    house.kill_own()
    house.wait()
    assert eventually(lambda: not any(map(alive, own)))
    again = server(config, env={"CLINVK_HOME": str(house.clinvk_home)}, args=port)
    may_end.touch()
    chromium.wait_for(f"seen.at(-1)[1] === '{end}'", 60)
    chromium.wait_for("source.readyState === EventSource.CLOSED")  # it asked for more and was told that nothing follows
    seen = chromium.ask("seen")
    assert seen == stored(again, path)
    assert [number for number, _, _ in seen] == list(range(1, len(seen) + 1))
    assert [name for _, name, _ in seen].count("restarted") == (end == "done")
