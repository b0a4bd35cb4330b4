"""Codex as a client: its model provider is this server, which answers it through Claude Code."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.openai.conftest import House
from tests.conftest import Rig
from tests.parts.clis import NO_WAY_OUT, cli_path, do, require
from tests.parts.model_api import Reply, tokens
from tests.parts.processes import eventually

CONFIG = """\
model = "{model}"
model_provider = "clinvk"
check_for_update_on_startup = false

[model_providers.clinvk]
name = "clinvk"
base_url = "{url}"
wire_api = "responses"
env_key = "CLINVK_CLIENT_KEY"
{more}

[analytics]
enabled = false
"""
TIMEOUT_S = 60


class Codex:
    """The real `codex exec --json`, with a home of its own."""

    def __init__(self, folder: Path, url: str, model: str = "claude", more: str = "") -> None:
        self.home = folder / "codex"
        self.home.mkdir()
        (self.home / "config.toml").write_text(CONFIG.format(url=url, model=model, more=more))
        self.workdir = folder / "project"
        self.workdir.mkdir()

    def run(self, prompt: str, *args: str) -> tuple[int, list[dict[str, Any]]]:
        env = {
            "PATH": cli_path(),
            "HOME": str(self.home),
            "CODEX_HOME": str(self.home),
            "CLINVK_CLIENT_KEY": "any",
            "CODEX_API_KEY": "any",
            **NO_WAY_OUT,
        }
        env |= {key: os.environ[key] for key in ("LANG",) if key in os.environ}
        command = ["codex", "exec", "--json", "--skip-git-repo-check", *args, "-"]
        done = subprocess.run(
            command, env=env, cwd=self.workdir, input=prompt, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        print(done.stderr[-4000:])
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def said(lines: list[dict[str, Any]]) -> str:
    return "".join(line["item"]["text"] for line in lines if line.get("item", {}).get("type") == "agent_message")


@pytest.mark.real_cli
def test_codex_is_answered_by_claude(rig: Rig, tmp_path: Path) -> None:
    require("codex")
    require("claude")
    rig.api.forget()
    answer = [*tokens(30), " é漢字🙂"]
    rig.api.script("what is this project", Reply(text=answer, input_tokens=1000, cached_tokens=234, output_tokens=56))
    codex = Codex(tmp_path, f"{rig.server.url}/openai/v1")
    code, lines = codex.run("what is this project")
    assert (code, said(lines)) == (0, "".join(answer))
    assert {exchange.dialect for exchange in rig.api.about("what is this project")} == {"anthropic"}
    usage = lines[-1]["usage"]
    assert (usage["input_tokens"], usage["cached_input_tokens"], usage["output_tokens"]) == (1234, 234, 56)
    assert eventually(lambda: not rig.server.runs())


@pytest.mark.real_cli
def test_codex_goes_on_with_its_conversation(rig: Rig, tmp_path: Path) -> None:
    require("codex")
    require("claude")
    rig.api.forget()
    rig.api.script("my name is Ada", Reply(text="hello Ada"))
    rig.api.script("and my name?", Reply(text="it is Ada"))
    codex = Codex(tmp_path, f"{rig.server.url}/openai/v1")
    code, _ = codex.run("my name is Ada")
    assert code == 0
    code, lines = codex.run("and my name?", "resume", "--last")
    assert (code, said(lines)) == (0, "it is Ada")
    exchange = rig.api.about("and my name?")[-1]
    assert exchange.mentions("my name is Ada")
    assert exchange.mentions("hello Ada")


@pytest.mark.real_cli
def test_codex_is_told_why_a_run_failed_and_does_not_repeat_it(house: House, tmp_path: Path) -> None:
    require("codex")
    codex = Codex(tmp_path, house.url)  # set to try five times more, as it is by default
    code, lines = codex.run(do(["say", "so far"], ["fail", "the model is on strike", 500], about="codex fails"))
    assert code != 0
    assert "the model is on strike" in json.dumps(lines)
    assert len(house.processes("codex fails")) == 1


@pytest.mark.real_cli
def test_tools_of_codex_are_left_out(house: House, tmp_path: Path) -> None:
    require("codex")
    code, lines = Codex(tmp_path, house.url).run("hello from codex")
    assert code == 0
    assert "hello from codex" in said(lines)
    (report,) = house.processes("hello from codex")
    assert "exec_command" not in report["prompt"]
    assert house.initialized("hello from codex")[0]["systemPrompt"]


@pytest.mark.real_cli
def test_codex_with_its_own_provider_and_our_address(house: House, tmp_path: Path) -> None:
    """`openai_base_url` keeps Codex' own provider, which tries a WebSocket first."""
    require("codex")
    codex = Codex(tmp_path, house.url)
    (codex.home / "config.toml").write_text(
        f'model = "claude"\nopenai_base_url = "{house.url}"\ncheck_for_update_on_startup = false\n[analytics]\nenabled = false\n'
    )
    code, lines = codex.run("hello from codex itself")
    assert code == 0
    assert "hello from codex itself" in said(lines)
    assert "Reconnecting" not in json.dumps(lines)
