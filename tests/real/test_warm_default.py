"""With no word of it in the configuration, whoever asks again finds a process that is there already."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi
from tests.parts.processes import eventually


@pytest.mark.smoke
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.real_cli) for name in ("claude", "codex")])
@pytest.mark.parametrize("is_given_as_path", [False, True], ids=["found", "given"])
def test_the_third_run_of_a_kind_is_warm(
    server: ServerFactory, model_api: FakeModelApi, tmp_path: Path, name: str, is_given_as_path: bool
) -> None:
    require(name)
    cli = real_cli_in(tmp_path / name, name, model_api.url)
    backend = {key: value for key, value in cli.backend.items() if key != "warm"}
    backend |= {"command": shutil.which(name, path=cli_path())} if is_given_as_path else {}
    config = {"default_backend": name, "backends": {name: backend}, "server": {"log_level": "debug"}}
    one = server(config, env={**cli.env, **NO_WAY_OUT, "PATH": cli_path()})
    for _ in range(2):
        assert one.client.prompt(name, "hello", ephemeral=True).json["output"] == "ok"
    assert eventually(lambda: " waits " in one.log())
    assert one.client.prompt(name, "hello", ephemeral=True).json["output"] == "ok"
    assert f"{name}: a run is warm" in one.log()
