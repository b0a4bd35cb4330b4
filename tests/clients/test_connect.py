"""The real clients read what `clinvk connect` has written: as their model provider, and as an MCP server with the key and the depth."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from app.cli.command import run
from app.clients.connections import KEY_VARIABLE
from services.depth import VARIABLE as DEPTH_VARIABLE
from tests.parts import house as houses
from tests.parts.clis import NO_WAY_OUT, cli_path, do, require
from tests.parts.house import house as house
from tests.parts.house import whole_house as whole_house
from tests.parts.mcp_server import McpServer
from tests.parts.mcp_server import mcp as mcp

TIMEOUT_S = 90
LISTS = {"claude": ["claude", "mcp", "list"], "gemini": ["gemini", "mcp", "list"]}
"""Commands that ask each configured server whether it is there."""


@pytest.fixture(scope="session")
def house_kind() -> type[houses.House]:
    return houses.House


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "CLINVK_SERVER_URL", KEY_VARIABLE, DEPTH_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    tmp_path.chmod(0o755)  # Gemini CLI reads no settings from folders that others may write to
    (tmp_path / "project").mkdir()
    return tmp_path


def ask(home: Path, command: list[str], prompt: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": cli_path(), "HOME": str(home), "LANG": "C.UTF-8", **NO_WAY_OUT}
    done = subprocess.run(
        command, input=prompt, env=base | env, cwd=home / "project", capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    print(done.stdout[-4000:], done.stderr[-4000:])
    return done


@pytest.mark.real_cli
@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("env", "expected"),
    [({KEY_VARIABLE: "ck-abc", DEPTH_VARIABLE: "1"}, ("Bearer ck-abc", "1")), ({}, ("Bearer unused", "0"))],
    ids=["set", "unset"],
)
def test_tools_are_asked_with_the_key_and_the_depth(
    home: Path, mcp: McpServer, name: str, env: dict[str, str], expected: tuple[str, str]
) -> None:
    require(name)
    if name == "gemini":
        (home / ".gemini").mkdir()
        (home / ".gemini" / "settings.json").write_text('{"security": {"folderTrust": {"enabled": false}}}')
    assert run(["connect", name, "--as=mcp", "--write", f"--server={mcp.url}"]) == 0
    done = ask(home, LISTS[name], **env)
    assert "clinvk" in done.stdout + done.stderr
    assert set(mcp.asked) == {expected}
    assert run(["connect", name, "--as=mcp", "--remove"]) == 0
    done = ask(home, LISTS[name], **env)
    assert "clinvk" not in done.stdout + done.stderr


@pytest.mark.real_cli
def test_claude_code_reads_the_file_of_a_project(home: Path, mcp: McpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    require("claude")
    monkeypatch.chdir(home / "project")
    assert run(["connect", "claude", "--as=mcp", "--project", "--write", f"--server={mcp.url}"]) == 0
    assert f"{mcp.url}/mcp" in ask(home, ["claude", "mcp", "get", "clinvk"]).stdout
    assert run(["connect", "claude", "--as=mcp", "--project", "--remove"]) == 0
    assert not list((home / "project").glob(".mcp.json*"))


@pytest.mark.real_cli
def test_claude_code_is_answered(house: houses.House, home: Path) -> None:
    require("claude")
    assert run(["connect", "claude", "--as=model", "--write", f"--server={house.server.url}"]) == 0
    done = ask(home, ["claude", "-p"], do(["say", "hello Claude Code"], about="connected claude"))
    assert (done.returncode, done.stdout.strip()) == (0, "hello Claude Code")
    assert run(["connect", "claude", "--as=model", "--remove"]) == 0
    assert not (home / ".claude" / "settings.json").exists()


@pytest.mark.real_cli
def test_codex_is_answered_and_has_the_tools(house: houses.House, mcp: McpServer, home: Path) -> None:
    require("codex")
    config = home / ".codex" / "config.toml"
    config.parent.mkdir()
    config.write_text(before := "# mine\ncheck_for_update_on_startup = false\n\n[analytics]\nenabled = false")
    assert run(["connect", "codex", "--as=model", "--write", f"--server={house.server.url}"]) == 0
    assert run(["connect", "codex", "--as=mcp", "--write", f"--server={mcp.url}"]) == 0
    command = ["codex", "exec", "-c", "model_provider=clinvk", "-m", "claude", "--json", "--skip-git-repo-check", "-"]
    done = ask(home, command, do(["say", "hello Codex"], about="connected codex"), **{KEY_VARIABLE: "ck-abc", DEPTH_VARIABLE: "1"})
    items = [json.loads(line).get("item", {}) for line in done.stdout.splitlines()]
    assert "".join(item["text"] for item in items if item.get("type") == "agent_message") == "hello Codex"
    assert set(mcp.asked) == {("Bearer ck-abc", "1")}
    shown = json.loads(ask(home, ["codex", "mcp", "get", "clinvk", "--json"]).stdout)
    assert shown["tool_timeout_sec"] >= 20 * 60
    assert run(["connect", "codex", "--remove"]) == 0
    assert config.read_text() == before
