"""However the server ends, the CLIs that it runs end with it, whatever they do against it."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.native import events
from tests.parts.processes import alive, descendants, eventually

STUBBORN = do(["ignore", 15], ["ignore", 2], ["spawn"], ["spawn", True, True], ["say", "hello"], ["hang"])


@pytest.mark.parametrize("whole_group", [False, True], ids=["parent", "group"])
def test_nothing_is_left_when_the_server_is_killed(server: ServerFactory, fake_cli: FakeCli, whole_group: bool) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}})
    with one.client.prompt_stream("claude", STUBBORN) as stream:
        next(stream.lines())
        tree = [fake_cli.pid(), *fake_cli.children(2), *descendants(one.pid)]
        if whole_group:
            os.killpg(one.pid, signal.SIGKILL)
        else:
            one.signal(signal.SIGKILL)
        one.wait()
        assert eventually(lambda: not any(map(alive, tree))), [pid for pid in tree if alive(pid)]


def test_nothing_is_left_when_the_worker_is_killed_and_the_server_serves_on(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}})
    with one.client.prompt_stream("claude", STUBBORN) as stream:
        next(stream.lines())
        tree = [fake_cli.pid(), *fake_cli.children(2)]
        workers = [pid for pid in one.own() if pid != one.pid and one.is_server(pid)]
        if not workers:
            pytest.skip("the server is one process")
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        assert eventually(lambda: not any(map(alive, tree)))
    assert eventually(one.is_up)
    assert one.client.prompt("claude", do(["say", "again"])).json["output"] == "again"


def test_what_is_left_of_a_server_that_was_killed_with_its_supervisors_ends_at_the_next_start(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path
) -> None:
    config = {"backends": {"claude": fake_cli.backend()}}
    temp = tmp_path / "tmp"
    temp.mkdir()
    one = server(config, {"TMPDIR": str(temp)})
    with one.client.prompt_stream("claude", STUBBORN) as stream:
        next(stream.lines())
        left = [fake_cli.pid(), *fake_cli.children(2)]
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, so that none of them sees another one's end
            for pid in one.own():
                os.kill(pid, number)
    one.wait()
    assert list(temp.glob("clinvk-*"))
    two = server(config, {"TMPDIR": str(temp)})
    assert not [pid for pid in left if alive(pid)]
    assert not list(temp.glob("clinvk-*"))
    assert "left behind by a server that was killed" in two.log()


def test_sigterm_lets_a_run_finish_and_takes_no_new_one(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}})
    with one.client.prompt_stream("claude", do(["tokens", 20, 0.05])) as stream:
        next(stream.lines())
        one.signal(signal.SIGTERM)
        found = events(stream.lines())
    assert found[-1]["type"] == "done"
    assert one.wait() == 0


def test_sigterm_ends_a_run_that_does_not_finish_with_an_honest_error(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}, "server": {"shutdown_grace_secs": 2}})
    with one.client.prompt_stream("claude", STUBBORN) as stream:
        lines = stream.lines()
        next(lines)
        one.signal(signal.SIGTERM)
        last = events(lines)[-1]
    assert last["type"] == "error"
    assert one.wait() == 0
    assert not one.runs()


STREAMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "openai chat": ("/openai/v1/chat/completions", {"messages": [{"role": "user", "content": STUBBORN}]}, '"error"'),
    "openai responses": ("/openai/v1/responses", {"input": STUBBORN}, "response.failed"),
    "anthropic": ("/anthropic/v1/messages", {"messages": [{"role": "user", "content": STUBBORN}], "max_tokens": 9}, "error"),
}


@pytest.mark.parametrize("surface", STREAMS)
def test_sigterm_ends_a_compatible_stream_in_the_surface_s_own_way(server: ServerFactory, fake_cli: FakeCli, surface: str) -> None:
    path, body, word = STREAMS[surface]
    one = server({"backends": {"claude": fake_cli.backend()}, "server": {"shutdown_grace_secs": 1}})
    with one.client.open("POST", path, {"model": "claude", "stream": True, **body}) as stream:
        fake_cli.children(2)
        one.signal(signal.SIGTERM)
        *_, last = (event for event in stream.events() if event.data != "[DONE]")
    assert word in (last.name or last.data)
    assert "the server is stopping" in last.data
    assert one.wait() == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_second_signal_ends_the_server_at_once_and_its_streams_honestly(
    server: ServerFactory, fake_cli: FakeCli, first: int, second: int
) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}, "server": {"shutdown_grace_secs": 600}})
    with one.client.prompt_stream("claude", STUBBORN) as stream:
        lines = stream.lines()
        next(lines)
        one.signal(first)
        assert eventually(lambda: "may finish within 600 s" in one.log())
        one.signal(second)
        last = events(lines)[-1]
    assert last["type"] == "error"
    assert "the server is stopping" in str(last["content"])
    assert one.wait(5) == 0


def test_sigterm_tells_a_caller_who_waits_for_a_whole_answer(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}, "server": {"shutdown_grace_secs": 2}})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(one.client.prompt, "claude", STUBBORN)
        fake_cli.children(2)
        one.signal(signal.SIGTERM)
        answer = waiting.result(20)
    assert answer.json["error"]
    assert one.wait() == 0


def test_server_that_is_stopped_while_idle_ends_at_once(server: ServerFactory) -> None:
    one = server({"server": {"shutdown_grace_secs": 60}})
    one.signal(signal.SIGTERM)
    try:
        assert one.wait(10) == 0
    except subprocess.TimeoutExpired:
        pytest.fail("still there")
