"""A server with all real CLIs, each of which has the server as an MCP server: agents that can ask agents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts.clis import NO_WAY_OUT, REAL_CLIS, TESTED_CLIS, RealCli, cli_path, real_cli_in
from tests.parts.model_api import FakeModelApi
from tests.parts.processes import command_line, eventually
from tests.parts.server import LOG_TAIL_CHARS, Server

NAME = "clinvk"
DEPTH = {"X-Clinvk-Depth": "${CLINVK_DEPTH:-0}"}


def connect_claude(folder: Path, url: str) -> None:
    (folder / "claude").mkdir(exist_ok=True)
    (folder / "claude" / ".claude.json").write_text(json.dumps({"mcpServers": {NAME: {"type": "http", "url": url, "headers": DEPTH}}}))


def connect_codex(folder: Path, url: str) -> None:
    with (folder / "codex" / "config.toml").open("a") as file:
        file.write(
            f'\n[mcp_servers.{NAME}]\nurl = "{url}"\nenv_http_headers = {{ X-Clinvk-Depth = "CLINVK_DEPTH" }}\ntool_timeout_sec = 600\n'
        )


def connect_gemini(folder: Path, url: str) -> None:
    path = folder / ".gemini" / "settings.json"
    settings = json.loads(path.read_text()) | {"mcpServers": {NAME: {"httpUrl": url, "headers": DEPTH, "trust": True}}}
    path.write_text(json.dumps(settings))


CONNECT = {"claude": connect_claude, "codex": connect_codex, "gemini": connect_gemini}


@dataclass(frozen=True)
class Agents:
    server: Server
    api: FakeModelApi
    clis: dict[str, RealCli]
    workdir: Path

    def ask(self, name: str, prompt: str, **fields: Any) -> dict[str, Any]:
        options = {"approval_mode": "none", **self.clis[name].shell_options}
        answer = self.server.client.prompt(name, prompt, workdir=str(self.workdir), **options, **fields)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json
        return found


@pytest.fixture(scope="module")
def house_of_agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("agents")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in REAL_CLIS}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    server = Server(folder, {"backends": {name: cli.backend for name, cli in clis.items()}}, env)
    for name, connect in CONNECT.items():
        connect(folder / name, f"{server.url}/mcp")
    workdir = folder / "project"
    workdir.mkdir()
    yield Agents(server, api, clis, workdir)
    try:
        server.stop()
    finally:
        api.stop()


@pytest.fixture
def agents(house_of_agents: Agents) -> Iterator[Agents]:
    house_of_agents.api.forget()
    server = house_of_agents.server
    logged = len(server.log())
    yield house_of_agents
    gone = eventually(lambda: not server.runs())
    print(server.log()[logged:][-LOG_TAIL_CHARS:])
    assert gone, "left behind: " + "\n".join(f"{pid}: {command_line(pid)}" for pid in server.runs())


def pairs(*both: tuple[str, str]) -> list[Any]:
    """Parameters: who asks whom. Tested where the one who asks is of this run's versions."""
    return [pytest.param(*pair, marks=pytest.mark.real_cli) for pair in both if pair[0] in TESTED_CLIS]
