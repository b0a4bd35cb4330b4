"""The CLIs that tests run: the scripted one, and the real ones, configured for the fake model API."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .model_api import RequestRecord
from .processes import eventually

PARTS = Path(__file__).parent
FAKE_COMMAND = [sys.executable, "-I", "-S", str(PARTS / "fake_cli.py")]
FAKE_APP_SERVER = [sys.executable, "-I", "-S", str(PARTS / "fake_app_server.py")]

Step = list[Any]


def do(*steps: Step, about: str = "") -> str:
    """A prompt that makes the scripted CLI run these steps (see `fake_cli`), prefixed with ``about``."""
    return f"{about} #do {json.dumps(steps, ensure_ascii=False)}".strip()


def told(report: Mapping[str, Any]) -> str:
    """All that the process was told: the messages before the one to answer, as JSON, and that one's text."""
    return "\n".join([*(json.dumps(message, ensure_ascii=False) for message in report["history"]), report["prompt"]])


def _pid_of(report: Path) -> int:
    return int(report.name.partition("-")[0])


class FakeCli:
    """The scripted CLI as a backend, and the reports of its processes."""

    def __init__(self, reports: Path) -> None:
        self._reports = reports
        self._reports.mkdir()

    @property
    def transcripts(self) -> list[Path]:
        """The sessions that it stores, if its backend was made with `keeping`."""
        return sorted(self.folder.glob("projects/*/*.jsonl"))

    @property
    def folder(self) -> Path:
        return self._reports.with_name(f"{self._reports.name}-kept")

    @property
    def keeping(self) -> dict[str, str]:
        """Environment variables that make it store its sessions, as Claude Code does."""
        return {"CLAUDE_CONFIG_DIR": str(self.folder)}

    def backend(self, *args: str, **more: Any) -> dict[str, Any]:
        """The settings of a backend that runs it."""
        return self._settings(FAKE_COMMAND, args, more)

    def app_server(self, *args: str, **more: Any) -> dict[str, Any]:
        """The settings of the backend ``codex``, with the scripted app-server in its place. It reports every turn."""
        return self._settings(FAKE_APP_SERVER, args, more)

    def _settings(self, command: list[str], args: tuple[str, ...], more: dict[str, Any]) -> dict[str, Any]:
        env = {"FAKE_CLI_REPORTS": str(self._reports)} | more.pop("env", {})
        return {"command": [*command, *args], "env": env, **more}

    def forget(self) -> None:
        for path in self._reports.iterdir():
            path.unlink()

    def reports(self) -> list[dict[str, Any]]:
        """One per process, in no particular order: pid, argv, cwd, env (names), prompt, history."""
        return [json.loads(path.read_text()) for path in self._reports.glob("*.json")]

    def wait_for(self, count: int = 1) -> list[dict[str, Any]]:
        """The reports, once ``count`` processes have reported."""
        assert eventually(lambda: len(self.reports()) >= count), f"{len(self.reports())} of {count} processes have started"
        return self.reports()

    def pid(self) -> int:
        return int(self.wait_for()[0]["pid"])

    def initialized(self) -> dict[int, dict[str, Any]]:
        """The ``initialize`` requests received on stdin, by process."""
        return {_pid_of(path): json.loads(path.read_text()) for path in self._reports.glob("*.initialize")}

    def interrupted(self) -> list[int]:
        """The processes that were interrupted through the protocol."""
        return [_pid_of(path) for path in self._reports.glob("*.interrupted")]

    def children(self, count: int = 1) -> list[int]:
        """The PIDs that the processes have started, once there are at least ``count``."""

        def found() -> list[int]:
            return [int(line) for path in self._reports.glob("*.children") for line in path.read_text().split("\n")[:-1]]

        assert eventually(lambda: len(found()) >= count), f"{len(found())} of {count} grandchildren have started"
        return found()


@dataclass(frozen=True)
class RealCli:
    """One real CLI: its backend name, its API dialect, and the environment that points it to the fake API."""

    name: str
    dialect: str
    model: str
    env: Mapping[str, str]
    """For the server, which passes a vendor's variables to its CLI."""
    shell_options: Mapping[str, str]
    """Request fields that let its shell tool run without approval."""

    @property
    def backend(self) -> dict[str, Any]:
        """Its settings. As root, Claude Code refuses to skip approvals unless IS_SANDBOX is set.

        Prewarming is off, so that any process after a run was left behind; tests of prewarming turn it on.
        """
        return {"model": self.model, "env": {"IS_SANDBOX": "1"} if self.name == "claude" else {}, "warm": {"max": 0}}


def runs_of(cli: RealCli, exchanges: Sequence[RequestRecord]) -> int:
    """The number of CLI runs that made these requests to the model API. Fails if a request was repeated.

    Claude Code 2.1.332 retries after an unknown 400 up to five times, each time without one more of its beta headers or the
    corresponding part of the body: different requests of the same session.
    """
    if cli.name != "claude":
        return len(exchanges)
    asked = [json.dumps([exchange.headers.get("anthropic-beta"), exchange.body]) for exchange in exchanges]
    assert len(set(asked)) == len(asked), "a request was repeated"
    return len({exchange.headers["X-Claude-Code-Session-Id"] for exchange in exchanges})


REAL_CLIS = ("claude", "codex", "gemini")
SLOW_CLIS = {"gemini"}
"""Take seconds to start: of their tests the default run has the smoke tests alone; the others are long."""
CLI_FOLDERS = {"newest": (".clis",), "oldest": (".clis-oldest", ".clis")}
"""Where the real CLIs are installed, by CLI_VERSIONS: the newest tested versions (tests/clis), or the oldest supported
(tests/clis/oldest) where those are others."""
CLI_VERSIONS = os.environ.get("CLI_VERSIONS", "newest")
OLDEST_PINS = json.loads((PARTS.parent / "clis" / "oldest" / "package.json").read_text())["dependencies"]
TESTED_CLIS = {name for name in REAL_CLIS if CLI_VERSIONS == "newest" or any(name in package for package in OLDEST_PINS)}
"""The CLIs tested in this run. If the oldest and the newest version are the same, only the run with the newest tests it."""

NO_WAY_OUT = {
    # Anything but loopback goes to a proxy that does not exist, so a CLI that phones home fails at once.
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
}


def require_cli_in_the_sandbox(name: str) -> None:
    """Skip where the checkout, and so the CLI, is below a folder that every sandbox has one of its own of."""
    if str(shutil.which(name, path=cli_path())).startswith(("/tmp/", "/run/")):
        pytest.skip(f"{name} is installed below /tmp or /run, which the sandbox replaces; use a checkout elsewhere")


def cli_path() -> str:
    """PATH with the repository's own CLIs first."""
    folders = [PARTS.parents[1] / folder / "node_modules" / ".bin" for folder in CLI_FOLDERS[CLI_VERSIONS]]
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


def require(name: str) -> None:
    """Skip the test with the reason if the CLI is missing; fail it if REQUIRE_REAL_CLIS=1."""
    if shutil.which(name, path=cli_path()):
        return
    reason = f"{name} is not installed: `./dev test` installs it into .clis, or put it on PATH"
    if os.environ.get("REQUIRE_REAL_CLIS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def real_cli_in(folder: Path, name: str, api_url: str) -> RealCli:
    """Configure ``name`` in ``folder``, with its own home and the fake API as its vendor."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)  # Gemini CLI reads no settings from folders that others may write to
    return {"claude": claude, "codex": codex, "gemini": gemini}[name](folder, api_url)


def claude(folder: Path, api_url: str) -> RealCli:
    env = {
        "ANTHROPIC_BASE_URL": api_url,
        "ANTHROPIC_API_KEY": "sk-ant-fake",
        "CLAUDE_CONFIG_DIR": str(folder / "claude"),
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    }
    return RealCli("claude", "anthropic", "claude-sonnet-4-5", env, {"approval_mode": "none"})


CODEX_CONFIG = """\
model = "gpt-5"
model_provider = "fake"
check_for_update_on_startup = false

[model_providers.fake]
name = "fake"
base_url = "{api_url}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false
"""


def codex(folder: Path, api_url: str) -> RealCli:
    home = folder / "codex"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(CODEX_CONFIG.format(api_url=api_url))
    env = {"CODEX_HOME": str(home), "OPENAI_API_KEY": "sk-fake"}
    return RealCli("codex", "responses", "gpt-5", env, {"sandbox_mode": "full"})


def gemini(folder: Path, api_url: str) -> RealCli:
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"maxAttempts": 1, "enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
    }
    path = folder / ".gemini" / "settings.json"
    path.parent.mkdir()
    path.write_text(json.dumps(settings))
    env = {
        "GOOGLE_GEMINI_BASE_URL": api_url,
        "GEMINI_API_KEY": "fake",
        "GEMINI_CLI_HOME": str(folder),
    }
    return RealCli("gemini", "gemini", "gemini-2.5-flash", env, {"approval_mode": "none"})
