"""Claude Code itself as the client: ``ANTHROPIC_BASE_URL`` points at this server, and Codex answers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.anthropic.conftest import House
from tests.conftest import Rig
from tests.parts.clis import NO_WAY_OUT, cli_path, do, require
from tests.parts.model_api import Reply, tokens

TIMEOUT_S = 120


def claude_code(base_url: str, home: Path, prompt: str, *options: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": cli_path(),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": base_url,
        "ANTHROPIC_API_KEY": "any",
        **NO_WAY_OUT,
    }
    command = ["claude", "-p", *options]
    return subprocess.run(command, input=prompt, env=env, cwd=home, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.real_cli
@pytest.mark.parametrize("base", ["/anthropic", "/anthropic/v1"])
def test_claude_code_is_answered_through_codex(rig: Rig, tmp_path: Path, base: str) -> None:
    require("claude")
    require("codex")
    rig.api.forget()
    said = [*tokens(20), " é漢字🙂"]
    rig.api.script("what is in this folder", Reply(text=said))
    done = claude_code(
        rig.server.url + base, tmp_path, "what is in this folder", "--model=codex", "--output-format=stream-json", "--verbose"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (result["type"], result["is_error"], result["result"]) == ("result", False, "".join(said))
    assert {exchange.dialect for exchange in rig.api.about("what is in this folder")} == {"responses"}


@pytest.mark.real_cli
def test_failure_reaches_claude_code_s_user_and_is_not_repeated(house: House, tmp_path: Path) -> None:
    """Claude Code would try ten times, and once more without streaming. It asks for a title of the session besides."""
    require("claude")
    prompt = do(["fail", "the model is on strike"], about="claude code asks")
    done = claude_code(house.url, tmp_path, prompt, "--model=claude/sonnet")
    assert done.returncode != 0
    assert "the model is on strike" in done.stdout + done.stderr
    asked = [report["prompt"] for report in house.cli.reports() if "claude code asks" in report["prompt"]]
    assert sum("<session>" not in text for text in asked) == 1
