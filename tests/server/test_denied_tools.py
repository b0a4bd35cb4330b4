"""An agent that was refused a tool: every answer, stream, log and terminal names the tool, and gives the reason where there is room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.command import Command
from tests.parts.native import events
from tests.parts.server import Server

REASON = "Claude requested permissions to write to /x/new.txt, but you haven't granted it yet."
PROMPT = do(["deny", "Write", {"file_path": "/x/new.txt"}, REASON], ["deny", "mcp__a,b\nc", {}, "no"], ["say", "I could not."])
DENIED = [{"tool": "Write", "reason": REASON}, {"tool": "mcp__a,b\nc", "reason": "no"}]
HEADER = "Write, mcp__a_b_c"
MESSAGES = [{"role": "user", "content": PROMPT}]


@pytest.fixture
def one(server: ServerFactory, fake_cli: FakeCli) -> Server:
    return server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"log_format": "json"}})


def test_the_native_answer_the_stream_and_the_log_name_them(one: Server) -> None:
    answer = one.client.prompt("claude", PROMPT)
    assert (answer.json["exit_code"], answer.json["error"], answer.json["denied_tools"]) == (0, None, DENIED)
    assert answer.headers["X-Clinvk-Denied-Tools"] == HEADER
    with one.client.prompt_stream("claude", PROMPT) as stream:
        assert events(stream.lines())[-1]["content"]["denied_tools"] == DENIED
    run = next(run for line in one.log().splitlines() if line.startswith("{") and (run := json.loads(line))["logger"] == "clinvk.run")
    assert run["denied_tools"] == "Write, mcp__a,b\nc"
    assert REASON not in one.log()


def test_a_run_that_was_refused_nothing_says_so(one: Server) -> None:
    answer = one.client.prompt("claude", do(["say", "done"]))
    assert answer.json["denied_tools"] == []
    assert "X-Clinvk-Denied-Tools" not in answer.headers


def test_each_run_of_several_names_its_own(one: Server) -> None:
    tasks = [{"prompt": PROMPT}, {"prompt": do(["say", "done"])}]
    answer = one.client.post("/api/v1/parallel", {"tasks": tasks}).json
    assert [run["denied_tools"] for run in answer["results"]] == [DENIED, []]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/v1/chat/completions", {"messages": MESSAGES}),
        ("/openai/v1/responses", {"input": PROMPT}),
        ("/anthropic/v1/messages", {"messages": MESSAGES, "max_tokens": 100}),
    ],
)
def test_a_whole_answer_of_a_compatible_surface_names_them_in_a_header(one: Server, path: str, body: dict[str, object]) -> None:
    answer = one.client.post(path, {"model": "claude", **body})
    assert (answer.status, answer.headers["X-Clinvk-Denied-Tools"]) == (200, HEADER)


def test_the_terminal_says_why_and_what_allows_more(one: Server, tmp_path: Path) -> None:
    clinvk = Command(tmp_path, f"denied-{tmp_path.name}", {"CLINVK_SERVER_URL": one.url})
    done = clinvk("prompt", PROMPT)
    assert (done.returncode, done.stdout) == (0, "I could not.\n")
    assert f"refused: Write: {REASON} (try --approval-mode auto)\n" in done.stderr
    assert "(try --approval-mode none)" in clinvk("prompt", PROMPT, "--approval-mode", "auto").stderr
    code, screen = clinvk.on_a_terminal("prompt", PROMPT)
    assert code == 0
    assert "Write: /x/new.txt" in screen
    assert f"refused: Write: {REASON}" in screen
