"""More clients that `clinvk connect` configures, each installed by npm into a folder of its own, where REQUIRE_CLIENTS=1."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.cli.command import run
from app.clients.connections import KEY_VARIABLE
from tests.parts import house as houses
from tests.parts.clis import NO_WAY_OUT
from tests.parts.house import house as house
from tests.parts.house import whole_house as whole_house
from tests.parts.mcp_server import McpServer
from tests.parts.mcp_server import mcp as mcp

INSTALL_S, RUN_S = 300, 90


@dataclass(frozen=True, slots=True)
class Installed:
    """``options``: of `clinvk connect`; ``prompt`` and ``tools``: the arguments that ask the model and look for the tools."""

    package: str
    program: str
    prompt: list[str]
    tools: list[str]
    options: list[str] = field(default_factory=list)


CLIENTS = {
    "qwen": Installed("@qwen-code/qwen-code@0.24.4", "qwen", ["-p"], ["mcp", "list"]),
    "cline": Installed(
        "cline@3.0.65",
        "cline",
        ["-P", "openai-compatible", "-t", "60"],
        ["-P", "openai-compatible", "-t", "60", "hi there"],
        ["--with-key"],
    ),
    "continue": Installed("@continuedev/cli@1.5.47", "cn", ["-p"], ["-p", "hi there"]),
}


@pytest.fixture(scope="session")
def house_kind() -> type[houses.House]:
    return houses.House


@pytest.fixture(scope="session", params=CLIENTS)
def name(request: pytest.FixtureRequest) -> str:
    if os.environ.get("REQUIRE_CLIENTS") != "1":
        pytest.skip(f"{request.param} would be installed into a folder of its own: set REQUIRE_CLIENTS=1")
    return str(request.param)


@pytest.fixture(scope="session")
def program(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    npm = shutil.which("npm")
    assert npm, "it needs npm"
    folder = tmp_path_factory.mktemp(name)
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix", folder, CLIENTS[name].package]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "node_modules" / ".bin" / CLIENTS[name].program


@pytest.fixture
def ask(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What the program prints."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLINVK_API_KEY", "ck-abc")
    (tmp_path / "project").mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", KEY_VARIABLE: "ck-abc", **NO_WAY_OUT}

    def output(*args: str) -> str:
        done = subprocess.run(
            [program, *args],
            env=env,
            cwd=tmp_path / "project",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        print(done.stdout[-4000:], done.stderr[-4000:])
        return done.stdout + done.stderr

    return output


@pytest.mark.long
def test_it_is_answered(name: str, ask: Callable[..., str], house: houses.House) -> None:
    client = CLIENTS[name]
    assert run(["connect", name, "--as=model", "--write", f"--server={house.server.url}", *client.options]) == 0
    assert f"asked by {name}" in ask(*client.prompt, f"asked by {name}")
    assert house.processes(f"asked by {name}")


@pytest.mark.long
def test_its_tools_are_asked_with_the_key(name: str, ask: Callable[..., str], house: houses.House, mcp: McpServer) -> None:
    client = CLIENTS[name]
    assert run(["connect", name, "--as=model", "--write", f"--server={house.server.url}", *client.options]) == 0
    assert run(["connect", name, "--as=mcp", "--write", f"--server={mcp.url}", *client.options]) == 0
    ask(*client.tools)
    assert set(mcp.asked) == {("Bearer ck-abc", None)}
