"""The fake model API is correct: the real CLIs, without our server in between, accept its answers as their vendor's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.parts.client import Client
from tests.parts.clis import NO_WAY_OUT, RealCli, cli_path, runs_of
from tests.parts.model_api import FakeModelApi, Reply, tokens

ARGV = {
    "claude": ["claude", "-p", "--output-format=stream-json", "--verbose", "--permission-mode=bypassPermissions"],
    "codex": ["codex", "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"],
    "gemini": ["gemini", "-o=stream-json", "--approval-mode=yolo", "--skip-trust"],
}


def run(cli: RealCli, prompt: str, cwd: Path) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the JSON lines of one run of the real program."""
    base = {"PATH": cli_path(), "HOME": str(cwd), "LANG": "C.UTF-8", "IS_SANDBOX": "1", "GEMINI_CLI_NO_RELAUNCH": "true"}
    argv = [*ARGV[cli.name], f"--model={cli.model}"]
    done = subprocess.run(argv, input=prompt.encode(), capture_output=True, cwd=cwd, env=base | NO_WAY_OUT | dict(cli.env), timeout=60)
    lines = [json.loads(line) for line in done.stdout.split(b"\n") if line.startswith(b"{")]
    assert lines, f"no JSON line; stderr: {done.stderr.decode()[-2000:]}"
    return done.returncode, lines


def text(cli: RealCli, lines: list[dict[str, Any]]) -> str:
    """The answer text in each CLI's output."""
    match cli.name:
        case "claude":
            return str(lines[-1]["result"])
        case "codex":
            return "".join(line["item"]["text"] for line in lines if line.get("item", {}).get("type") == "agent_message")
        case _:
            return "".join(line["content"] for line in lines if line.get("role") == "assistant")


def usage(cli: RealCli, lines: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Input tokens (including cached), cached tokens, output tokens."""
    match cli.name:
        case "claude":
            counts = lines[-1]["usage"]
            cached = counts["cache_read_input_tokens"]
            return counts["input_tokens"] + cached, cached, counts["output_tokens"]
        case "codex":
            counts = lines[-1]["usage"]
            return counts["input_tokens"], counts["cached_input_tokens"], counts["output_tokens"]
        case _:
            counts = lines[-1]["stats"]
            return counts["input_tokens"], counts["cached"], counts["output_tokens"]


def test_answer_and_usage_come_through(real_cli: RealCli, model_api: FakeModelApi, tmp_path: Path) -> None:
    said = [*tokens(20), " é漢字🙂", "\u2028end"]
    model_api.script("the question", Reply(text=said, input_tokens=1000, cached_tokens=234, output_tokens=56))
    code, lines = run(real_cli, "the question, please", tmp_path)
    assert (code, text(real_cli, lines)) == (0, "".join(said))
    assert usage(real_cli, lines) == (1234, 234, 56)
    assert model_api.last_user_text(real_cli.dialect).strip() == "the question, please"
    assert model_api.last(real_cli.dialect).model == real_cli.model


def test_shell_tool_runs_and_its_result_comes_back(real_cli: RealCli, model_api: FakeModelApi, tmp_path: Path) -> None:
    (tmp_path / "found.txt").write_text("what the shell saw")
    model_api.script("look", Reply(shell="cat found.txt"), Reply(text="I have seen it"))
    code, lines = run(real_cli, "look", tmp_path)
    assert (code, text(real_cli, lines)) == (0, "I have seen it")
    last = model_api.last(real_cli.dialect)
    assert len(last.tool_results) == 1
    assert "what the shell saw" in last.tool_results[0]


@pytest.mark.parametrize("status", [400, 401, 429])
def test_error_of_the_api_ends_the_run_at_once(real_cli: RealCli, model_api: FakeModelApi, tmp_path: Path, status: int) -> None:
    model_api.script("fail", Reply(status=status, message="the exact words of the API"))
    code, lines = run(real_cli, "fail", tmp_path)
    assert code != 0
    message = "429 Too Many Requests" if (real_cli.name, status) == ("codex", 429) else "the exact words of the API"
    assert message in json.dumps(lines)
    assert runs_of(real_cli, model_api.about("fail")) == 1


def test_api_notices_a_client_that_leaves(model_api: FakeModelApi) -> None:
    model_api.script("wait", Reply(hang=True))
    body = {"stream": True, "messages": [{"role": "user", "content": "wait"}]}
    with pytest.raises(TimeoutError):
        Client(model_api.url).open("POST", "/v1/messages", body, timeout_s=0.2)
    assert model_api.exchanges[0].client_left.wait(5)


def test_search_in_bodies_sees_through_json_escapes(model_api: FakeModelApi) -> None:
    Client(model_api.url).post("/v1/messages", {"messages": [{"role": "user", "content": 'a\n"b" é'}]})
    assert model_api.mentions('a\n"b" é')
    assert not model_api.mentions("root:x:0")
