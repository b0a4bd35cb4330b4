"""A key's ceilings hold for the real CLIs, whatever the model asks for and whatever the operator has configured for everybody else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from flask import Flask

from app.build import build_services
from app.config.load import load_settings
from app.factory import create_app
from services.access.rights import Rights
from services.processes.bubblewrap import unavailable_reason
from tests.parts.clis import NO_WAY_OUT, REAL_CLIS, cli_path, real_cli_in, require, require_cli_in_the_sandbox
from tests.parts.keys import ring_of
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.programs import do_without
from tests.unit.app.parts import ask

KEYS = {
    "open": Rights(),
    "read-only": Rights(max_sandbox_mode="read-only"),
    "asking": Rights(max_approval_mode="default"),
    "sandboxed": Rights(isolation="sandbox"),
}
EVERY = pytest.mark.parametrize("cli", [pytest.param(name, marks=pytest.mark.real_cli) for name in REAL_CLIS], indirect=True)


@dataclass(frozen=True)
class Cli:
    """A real CLI that asks nothing and may write everywhere, but for what a key's ceilings forbid."""

    name: str
    app: Flask
    api: FakeModelApi
    workdir: Path

    def ask(self, key: str, prompt: str, **fields: Any) -> Any:
        body = {"prompt": prompt, "workdir": str(self.workdir), **fields}
        answer = ask(self.app, "/api/v1/prompt", {"X-Api-Key": f"{key}-0123456789"}, method="POST", json=body)
        assert answer.status_code == 200, answer.get_data(as_text=True)
        return answer.get_json()

    def tries(self, key: str, prompt: str, command: str, **fields: Any) -> Any:
        """The answer of a run whose model has the CLI's shell run ``command``."""
        self.api.script(prompt, Reply(text="", shell=command), Reply(text="I have tried"))
        return self.ask(key, prompt, **fields)


@pytest.fixture
def cli(request: pytest.FixtureRequest, tmp_path: Path, model_api: FakeModelApi) -> Iterator[Cli]:
    name: str = request.param
    require(name)
    real = real_cli_in(tmp_path / "cli", name, model_api.url)
    (tmp_path / "work").mkdir()
    backend = {key: value for key, value in real.backend.items() if key != "warm"} | {"approval_mode": "none"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"default_backend": name, "backends": {name: backend}}))
    environ = {**os.environ, **real.env, **NO_WAY_OUT, "PATH": cli_path(), "HOME": str(tmp_path), "CLINVK_HOME": str(tmp_path / "clinvk")}
    settings = load_settings(str(tmp_path / "config.yaml"), environ=environ)
    services = build_services(settings, environ)
    app = create_app(settings, keys=ring_of(*(f"{key}={key}-0123456789" for key in KEYS)), services=services)
    services.access.replace(KEYS)
    yield Cli(name, app, model_api, tmp_path / "work")
    services.runner.close()
    services.spawner.close()
    services.conversations.store.close()


@EVERY
def test_a_read_only_key_cannot_write_though_the_server_s_default_is_to_ask_nothing(cli: Cli) -> None:
    made = cli.workdir / "made"
    answer = cli.tries("read-only", "write it", f"touch {made}")
    assert answer["ignored"] == ["sandbox_mode"]
    assert not made.exists()
    cli.tries("open", "write it as you are", f"touch {made}")
    assert made.exists(), "without the ceiling the same command writes"


@EVERY
def test_a_read_only_key_cannot_write_in_a_later_turn_of_an_older_session(cli: Cli) -> None:
    made = cli.workdir / "made"
    access = cli.app.extensions["clinvk"].access
    access.replace({**KEYS, "read-only": Rights()})
    session = cli.ask("read-only", "begin", sandbox_mode="full" if cli.name == "codex" else "default")["session_id"]
    access.replace(KEYS)
    cli.api.script("go on", Reply(text="", shell=f"touch {made}"), Reply(text="I have tried"))
    answer = ask(
        cli.app,
        f"/api/v1/sessions/{session}/resume",
        {"X-Api-Key": "read-only-0123456789"},
        method="POST",
        json={"prompt": "go on"},
    )
    assert (answer.status_code, answer.get_json()["ignored"]) == (200, ["sandbox_mode"]), answer.get_data(as_text=True)
    assert not made.exists()


@pytest.mark.parametrize("cli", [pytest.param("claude", marks=pytest.mark.real_cli)], indirect=True)
def test_a_key_that_must_ask_cannot_write_though_the_server_s_default_is_to_ask_nothing(cli: Cli) -> None:
    made = cli.workdir / "made"
    answer = cli.tries("asking", "write it", f"touch {made}")
    assert answer["ignored"] == ["approval_mode"]
    assert [denied["tool"] for denied in answer["denied_tools"]] == ["Bash"]
    assert not made.exists()


@EVERY
def test_a_sandboxed_key_s_runs_are_confined_and_those_of_others_are_not(cli: Cli, tmp_path: Path) -> None:
    """In any order: a process that was started for one of them serves none of the other kind."""
    if reason := unavailable_reason():
        do_without(reason)
    require_cli_in_the_sandbox(cli.name)
    outside = tmp_path / "outside"
    outside.mkdir()
    full = {"sandbox_mode": "full"} if cli.name == "codex" else {}
    for number, key in enumerate(("open", "sandboxed", "open", "sandboxed")):
        inside, made = cli.workdir / f"inside-{number}", outside / f"made-{number}"
        cli.tries(key, f"attempt {number}", f"touch {inside}; touch {made} || true", ephemeral=True, **full)
        assert inside.exists(), "the shell has run"
        assert made.exists() is (key == "open")
