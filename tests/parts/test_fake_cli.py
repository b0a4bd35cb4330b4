"""The scripted CLI follows its script, and its output has the form of Claude Code's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from tests.parts.clis import FAKE_COMMAND, FakeCli, do, require
from tests.parts.processes import alive, command_line, eventually


def run(prompt: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*FAKE_COMMAND, *args], input=prompt.encode(), capture_output=True, timeout=30)


def lines(prompt: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(prompt).stdout.split(b"\n")[:-1]]


def shape(line: dict[str, Any]) -> str:
    """The kind of the line, classified as in the recordings of Claude Code."""
    parts = [line["type"], line.get("subtype"), line.get("event", {}).get("type"), line.get("event", {}).get("delta", {}).get("type")]
    return "/".join(part for part in parts if part)


def test_lines_come_in_claudes_order() -> None:
    assert [shape(line) for line in lines(do(["tokens", 2], ["tool", "ls", "a.txt"]))] == [
        "system/init",
        "stream_event/message_start",
        "stream_event/content_block_start",
        "stream_event/content_block_delta/text_delta",
        "stream_event/content_block_delta/text_delta",
        "assistant",
        "stream_event/content_block_stop",
        "stream_event/message_delta",
        "stream_event/message_stop",
        "assistant",
        "user",
        "result/success",
    ]


def test_prompt_with_no_script_is_echoed_whatever_it_holds() -> None:
    prompt = 'a "quoted"\n\tline, \\ é 🙂 \u2028 end'
    assert lines(prompt)[-1]["result"] == f"You said: {prompt}"


@pytest.mark.parametrize(("dialect", "out"), [("jsonl", b'{"type":"text","text":"hi"}\n'), ("text", b"hi")])
def test_other_dialects(dialect: str, out: bytes) -> None:
    assert run(do(["say", "hi"]), f"--dialect={dialect}").stdout == out


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([["exit", 3]], 3),
        ([["die", 11]], -11),
        ([["die", 9]], -9),
        ([["fail", "no"]], 1),
        ([["result", False, "", None, 5]], 5),
        ([["say", "hi"]], 0),
    ],
)
def test_exit_code_is_the_scripts(steps: list[list[Any]], code: int) -> None:
    assert run(do(*steps)).returncode == code


def test_grandchild_outlives_the_cli_and_is_reported(fake_cli: FakeCli) -> None:
    env = fake_cli.backend()["env"]
    subprocess.run(FAKE_COMMAND, input=do(["spawn", True, True]).encode(), stdout=subprocess.DEVNULL, env=env, check=True)
    (child,) = fake_cli.children()
    assert eventually(lambda: command_line(child).startswith("sleep"))
    os.kill(child, signal.SIGTERM)
    assert alive(child)
    os.kill(child, signal.SIGKILL)
    assert eventually(lambda: not alive(child))


def test_report_tells_what_reached_the_process(fake_cli: FakeCli) -> None:
    env = fake_cli.backend()["env"] | {"SEEN": "1"}
    subprocess.run([*FAKE_COMMAND, "--flag"], input=b"hello", stdout=subprocess.DEVNULL, env=env, check=True)
    (report,) = fake_cli.reports()
    assert (report["argv"], report["prompt"]) == (["--flag"], "hello")
    assert "SEEN" in report["env"]


def test_missing_real_cli_is_a_skip_or_a_failure_as_ci_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_REAL_CLIS", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-cli is not installed"):
        require("no-such-cli")
    monkeypatch.setenv("REQUIRE_REAL_CLIS", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-cli is not installed"):
        require("no-such-cli")
