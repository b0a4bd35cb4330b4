"""Who gets a place, who waits and who is refused, over HTTP: nothing is started for a request that is refused."""

from __future__ import annotations

import json
import select
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.client import Sent
from tests.parts.clis import FakeCli, do
from tests.parts.processes import eventually
from tests.parts.server import Server

PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "native": ("/api/v1/prompt", {"backend": "claude", "prompt": "hello"}),
    "native stream": ("/api/v1/prompt", {"backend": "claude", "prompt": "hello", "output_format": "stream-json"}),
    "openai": ("/openai/v1/chat/completions", {"model": "claude", "messages": [{"role": "user", "content": "hello"}]}),
    "openai stream": ("/openai/v1/chat/completions", {"model": "claude", "messages": [{"role": "user", "content": "hi"}], "stream": True}),
    "anthropic": ("/anthropic/v1/messages", {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}),
}


def start(server: ServerFactory, fake_cli: FakeCli, **settings: Any) -> Server:
    config = {"max_concurrent_runs": 1, "max_queued_runs": 1} | settings
    return server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": config})


def send(one: Server, *steps: list[Any], **more: Any) -> Sent:
    return one.client.send("POST", "/api/v1/prompt", {"backend": "claude", "prompt": do(*steps)}, **more)


def output(sent: Sent) -> str:
    return str(json.loads(sent.connection.getresponse().read())["output"])


def wait_in_queue(one: Server, *steps: list[Any], **more: Any) -> Sent:
    """A request that waits for its place: one that is not answered at once. While the queue is full another one is sent."""
    waiting: list[Sent] = []

    def is_waiting() -> bool:
        sent = send(one, *steps, **more)
        if select.select([sent.socket], [], [], 0.3)[0]:
            sent.hang_up()
            return False
        waiting.append(sent)
        return True

    assert eventually(is_waiting)
    return waiting[0]


@pytest.mark.parametrize("surface", PATHS)
def test_a_full_queue_refuses_and_starts_nothing(server: ServerFactory, fake_cli: FakeCli, surface: str) -> None:
    one = start(server, fake_cli, max_queued_runs=0)
    path, body = PATHS[surface]
    with send(one, ["hang"]):
        fake_cli.wait_for(1)
        answer = one.client.post(path, body)
        assert answer.status == 503
        assert 1 <= int(answer.headers["Retry-After"]) <= 600
        assert answer.headers["x-should-retry"] != "false", "nothing ran: it may be tried again"
        assert "server.max_queued_runs" in answer.body.decode()
    assert eventually(lambda: one.client.post(path, body).status == 200)
    assert len(fake_cli.reports()) == 2


@pytest.mark.parametrize("abruptly", [False, True], ids=["fin", "rst"])
def test_a_caller_that_leaves_the_queue_frees_its_place_and_is_never_run(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path, abruptly: bool
) -> None:
    one = start(server, fake_cli)
    go = tmp_path / "go"
    with send(one, ["wait_for", str(go)], ["say", "first"]) as first:
        fake_cli.wait_for(1)
        leaver = wait_in_queue(one, ["say", "left"])
        assert one.client.prompt("claude", "is it full?").status == 503
        leaver.hang_up(abruptly=abruptly)
        with wait_in_queue(one, ["say", "second"]) as second:
            go.touch()
            assert (output(first), output(second)) == ("first", "second")
    assert not [report for report in fake_cli.reports() if "left" in report["prompt"]]


def test_a_caller_that_leaves_its_run_frees_its_place(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, max_queued_runs=0)
    for _ in range(3):
        fake_cli.forget()
        with send(one, ["spawn", True, True], ["hang"]):
            fake_cli.wait_for(1)
        assert eventually(lambda: one.client.prompt("claude", "hello").status == 200)
    assert not one.runs()


def test_who_waits_too_long_is_refused_with_the_name_of_the_limit(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, queue_timeout_secs=0.2)
    with send(one, ["hang"]):
        fake_cli.wait_for(1)
        answer = one.client.prompt("claude", "hello")
    assert (answer.status, answer.json["error"]["code"]) == (503, "backend_unavailable")
    assert "server.queue_timeout_secs" in answer.json["error"]["message"]
    assert len(fake_cli.reports()) == 1


def test_a_backend_s_own_limit_leaves_the_others_free(server: ServerFactory, fake_cli: FakeCli) -> None:
    claude = fake_cli.backend(max_concurrent_runs=1)
    one = server({"default_backend": "claude", "backends": {"claude": claude}, "server": {"max_queued_runs": 0}})
    with send(one, ["hang"]):
        fake_cli.wait_for(1)
        assert one.client.prompt("claude", "hello").status == 503
        assert one.client.prompt("demo", "hello").status == 200


def test_callers_with_keys_of_their_own_are_served_in_turn(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    one = start(server, fake_cli, max_queued_runs=3, api_keys=["ann=a-0123456789abcdef", "bob=b-0123456789abcdef"])
    ann, bob, go = {"X-Api-Key": "a-0123456789abcdef"}, {"X-Api-Key": "b-0123456789abcdef"}, tmp_path / "go"
    order = tmp_path / "order"
    first = send(one, ["wait_for", str(go)], headers=ann)
    fake_cli.wait_for(1)
    waiting = [wait_in_queue(one, ["append", str(order), f"ann{number} "], headers=ann) for number in range(3)]
    with send(one, ["append", str(order), "bob "], headers=bob) as bobs:
        displaced = waiting[2].connection.getresponse()
        assert displaced.status == 503
        go.touch()
        for sent in (first, waiting[0], waiting[1], bobs):
            assert sent.connection.getresponse().status == 200
            sent.hang_up()
    waiting[2].hang_up()
    assert order.read_text() == "ann0 bob ann1 "
