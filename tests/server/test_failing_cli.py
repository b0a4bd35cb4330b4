"""Every way in which a CLI fails, on the scripted CLI: the caller is told what happened, and nothing is left."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.native import events
from tests.parts.processes import eventually
from tests.parts.server import Server

FAILURES: dict[str, tuple[list[list[Any]], int | None, str]] = {
    "exit code": ([["stderr", "the disk is on fire\n"], ["exit", 3]], 3, "the disk is on fire"),
    "exit code after text": ([["say", "hello"], ["stderr", "broken\n"], ["exit", 4]], 4, "broken"),
    "silent exit with code 0": ([["exit", 0]], 0, "exit code 0"),
    "garbage and code 0": ([["write", "<html>not what you asked for</html>\n"], ["exit", 0]], 0, "not what you asked for"),
    "bytes that are no text": ([["bytes", "ff00fe0a"], ["exit", 0]], 0, ""),
    "half a line": ([["say", "hello"], ["write", '{"type":"resu'], ["exit", 0]], 0, "before it had finished"),
    "result without text": ([["result"]], 0, "without an answer"),
    "told by the CLI": ([["fail", "the model is on strike"]], 1, "the model is on strike"),
    "signal": ([["say", "hello"], ["die", 11]], 139, "SIGSEGV"),
    "too much output": ([["flood", 18]], None, "max_output_bytes"),
    "too long a line": ([["long_line", 9]], None, "line_limit_bytes"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_of_the_cli_is_a_result_with_its_reason(fake_server: Server, name: str) -> None:
    steps, exit_code, words = FAILURES[name]
    answer = fake_server.client.prompt("claude", do(*steps))
    assert answer.status == 200
    assert answer.json["exit_code"] == exit_code
    assert words in answer.json["error"]
    assert answer.json["error"]
    assert eventually(lambda: not fake_server.runs())


@pytest.mark.parametrize("name", FAILURES)
def test_failure_of_the_cli_ends_the_stream_with_its_reason(fake_server: Server, name: str) -> None:
    steps, _, words = FAILURES[name]
    with fake_server.client.prompt_stream("claude", do(*steps)) as stream:
        assert stream.status == 200
        last = events(stream.lines())[-1]
    assert last["type"] == "error"
    assert words in str(last["content"])
    assert eventually(lambda: not fake_server.runs())


HARMLESS: dict[str, list[list[Any]]] = {
    "slow start": [["wait", 1.2], ["say", "hello"]],
    "noise on stderr": [["stderr_flood", 8], ["say", "hello"]],
    "banner on stdout": [["write", "Update available!\n"], ["say", "hello"]],
    "writes after its last line": [["say", "hello"], ["last_line"], ["write", "bye\n"], ["exit", 0]],
    "stays after its last line": [["say", "hello"], ["last_line"], ["hang"]],
    "stays and ignores SIGTERM": [["ignore", 15], ["say", "hello"], ["last_line"], ["hang"]],
    "closes stdout and stays": [["say", "hello"], ["last_line"], ["close_stdout"], ["hang"]],
    "leaves a child behind": [["spawn", True, True], ["say", "hello"]],
    "leaves a child that holds stdout": [["spawn", True, True, True], ["say", "hello"]],
    "closes stderr": [["close_stderr"], ["say", "hello"]],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_answer_is_right_and_nothing_is_left_of_a_cli_that(fake_server: Server, name: str) -> None:
    answer = fake_server.client.prompt("claude", do(*HARMLESS[name]), timeout_secs=20)
    assert (answer.status, answer.json["output"], answer.json["error"] or "") == (200, "hello", "")
    assert eventually(lambda: not fake_server.runs())


STUCK: dict[str, list[list[Any]]] = {
    "hangs": [["hang"]],
    "hangs after text": [["say", "hello"], ["hang"]],
    "ignores SIGTERM": [["ignore", 15], ["ignore", 2], ["say", "hello"], ["hang"]],
    "has children everywhere": [["spawn"], ["spawn", True], ["spawn", True, True], ["spawn", True, True, True], ["hang"]],
    "closes its outputs": [["close_stdout"], ["close_stderr"], ["hang"]],
    "never stops talking": [["tokens", 1_000_000, 0.01]],
}


@pytest.mark.parametrize("name", [name for name in STUCK if name != "closes its outputs"])
def test_time_limit_stops_the_whole_tree_of_a_cli_that(fake_server: Server, name: str) -> None:
    answer = fake_server.client.prompt("claude", do(*STUCK[name]), timeout_secs=1)
    assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert eventually(lambda: not fake_server.runs())


def test_cli_that_closes_its_output_is_not_waited_for_until_the_time_limit(fake_server: Server) -> None:
    answer = fake_server.client.prompt("claude", do(*STUCK["closes its outputs"]), timeout_secs=30)
    assert answer.json["error"]
    assert eventually(lambda: not fake_server.runs())


def test_time_limit_ends_a_stream_with_an_error_event(fake_server: Server) -> None:
    with fake_server.client.prompt_stream("claude", do(*STUCK["hangs after text"]), timeout_secs=1) as stream:
        last = events(stream.lines())[-1]
    assert last["type"] == "error"
    assert "timeout" in str(last["content"])


def test_silence_has_a_limit_of_its_own(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}, "server": {"idle_output_timeout_secs": 1}})
    answer = one.client.prompt("claude", do(*STUCK["hangs after text"]))
    assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
    assert "idle_output_timeout_secs" in answer.json["error"]["message"]
    assert eventually(lambda: not one.runs())


@pytest.mark.parametrize("abruptly", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", STUCK)
def test_client_that_leaves_stops_the_whole_tree_of_a_cli_that(
    fake_server: Server, fake_cli: FakeCli, name: str, streams: bool, abruptly: bool
) -> None:
    body = {"backend": "claude", "prompt": do(*STUCK[name]), "output_format": "stream-json" if streams else "default"}
    with fake_server.client.send("POST", "/api/v1/prompt", body) as sent:
        fake_cli.pid()
        if children := sum(step[0] == "spawn" for step in STUCK[name]):
            fake_cli.children(children)
        sent.hang_up(abruptly=abruptly)
    assert eventually(lambda: not fake_server.runs())


@pytest.mark.parametrize("abruptly", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_client_that_sent_more_than_its_request_is_noticed_too_when_it_leaves(
    fake_server: Server, fake_cli: FakeCli, streams: bool, abruptly: bool
) -> None:
    body = {"backend": "claude", "prompt": do(*STUCK["hangs"]), "output_format": "stream-json" if streams else "default"}
    with fake_server.client.send("POST", "/api/v1/prompt", body) as sent:
        fake_cli.pid()
        sent.socket.sendall(b"G" * 100)
        sent.socket.sendall(b"E")
        sent.hang_up(abruptly=abruptly)
    assert eventually(lambda: not fake_server.runs())
