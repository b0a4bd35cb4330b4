"""bubblewrap around a run: what it can write and see, what is told of it, and the real CLIs inside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.processes.bubblewrap import unavailable_reason
from tests.conftest import ServerFactory
from tests.parts.clis import NO_WAY_OUT, REAL_CLIS, cli_path, real_cli_in, require, require_cli_in_the_sandbox
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.processes import eventually
from tests.parts.programs import do_without
from tests.parts.server import Server


@pytest.fixture(autouse=True, scope="module")
def works() -> None:
    if reason := unavailable_reason():
        do_without(reason)


SHELL: dict[str, Any] = {"command": ["sh"], "custom": {"output": "text"}, "sandbox": {"kind": "bubblewrap"}}


@pytest.fixture
def shell(server: ServerFactory) -> Server:
    return server({"default_backend": "sh", "backends": {"sh": SHELL}, "server": {"api_keys": ["a=the-key-itself-0123"]}})


def run(one: Server, script: str, **fields: Any) -> str:
    answer = one.client.post("/api/v1/prompt", {"backend": "sh", "prompt": script, **fields}, headers={"X-Api-Key": "the-key-itself-0123"})
    assert answer.status == 200, answer.body
    return str(answer.json["output"]).strip()


WRITES = ["/etc/made", "/usr/made", "$HOME/made", "/var/tmp/made", "{beside}/made"]


@pytest.mark.parametrize("path", WRITES)
def test_nothing_outside_the_workdir_can_be_written(shell: Server, tmp_path: Path, path: str) -> None:
    path = path.replace("{beside}", str(shell.home.parent)).replace("$HOME", str(shell.home))
    run(shell, f'touch "{path}"; true')
    assert not Path(path).exists()


def test_the_workdir_and_the_run_s_own_folder_can_be_written(shell: Server, tmp_path: Path) -> None:
    mine = f"/tmp/{tmp_path.name}-of-the-run"
    script = f"echo x > made && echo y > $TMPDIR/mine && echo z > {mine} && cat made $TMPDIR/mine {mine}; pwd"
    assert run(shell, script, workdir=str(tmp_path)).split() == ["x", "y", "z", str(tmp_path)]
    assert (tmp_path / "made").read_text() == "x\n"
    assert not Path(mine).exists()


def test_the_server_s_processes_and_configuration_are_out_of_sight(shell: Server) -> None:
    seen = run(shell, f"ls /proc | grep -c '^[0-9]'; kill -0 {shell.pid} 2>/dev/null && echo found; ls -A {shell.clinvk_home}")
    assert int(seen.split()[0]) < 10
    assert len(seen.split()) == 1
    assert run(shell, f"cat {shell.home.parent}/config.yaml; grep -rs the-key-itself-0123 {shell.home.parent}; echo nothing") == "nothing"


def test_a_client_that_leaves_ends_all_of_it(shell: Server) -> None:
    body = {"backend": "sh", "prompt": "setsid sleep 3600 & trap '' TERM INT; sleep 3600; sleep 3600"}
    with shell.client.send("POST", "/api/v1/prompt", body, {"X-Api-Key": "the-key-itself-0123"}):
        assert eventually(lambda: len(shell.runs()) >= 4)
    assert eventually(lambda: not shell.runs())


def test_the_stop_signal_reaches_the_cli_itself(shell: Server, tmp_path: Path) -> None:
    script = f"trap 'echo stopped > {tmp_path}/told; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    body = {"backend": "sh", "prompt": script, "workdir": str(tmp_path), "output_format": "stream-json"}
    with shell.client.open("POST", "/api/v1/prompt", body, {"X-Api-Key": "the-key-itself-0123"}) as stream:
        next(arrival for arrival in stream.lines() if "ready" in arrival.data)
    assert eventually(lambda: (tmp_path / "told").exists())


def test_backends_tells_what_is_in_force(shell: Server) -> None:
    answer = shell.client.get("/api/v1/backends", headers={"X-Api-Key": "the-key-itself-0123"}).json
    told = {backend["name"]: backend["isolation"]["sandbox"] for backend in answer["backends"]}
    assert (told["sh"], told["demo"]) == ("bubblewrap", "none")


def test_the_root_folder_is_no_workdir(shell: Server) -> None:
    answer = shell.client.post(
        "/api/v1/prompt", {"backend": "sh", "prompt": "id", "workdir": "/"}, headers={"X-Api-Key": "the-key-itself-0123"}
    )
    assert answer.status == 503
    assert "workdir" in answer.json["error"]["message"]


@pytest.fixture(scope="module")
def sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, FakeModelApi, dict[str, Any]]]:
    """A server with all real CLIs, each in the sandbox."""
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("sandboxed")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in REAL_CLIS}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    config = {"backends": {name: cli.backend for name, cli in clis.items()}, "server": {"sandbox": {"kind": "bubblewrap"}}}
    server = Server(folder, config, env)
    yield server, api, clis
    try:
        server.stop()
    finally:
        api.stop()


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.real_cli) for name in REAL_CLIS])
def test_real_cli_answers_inside_and_its_shell_writes_in_the_workdir_alone(
    sandboxed: tuple[Server, FakeModelApi, dict[str, Any]], tmp_path: Path, name: str
) -> None:
    require(name)
    require_cli_in_the_sandbox(name)
    server, api, clis = sandboxed
    api.forget()
    workdir, outside = tmp_path / "work", tmp_path / "outside"
    workdir.mkdir()
    outside.mkdir()
    shell = f"touch {workdir}/inside; touch {outside}/made || echo was-refused"
    api.script("try it", Reply(text="", shell=shell), Reply(text="I have tried"))
    answer = server.client.prompt(name, "try it", workdir=str(workdir), **clis[name].shell_options)
    assert (answer.status, answer.json["output"], answer.json["error"]) == (200, "I have tried", None), answer.body
    assert (workdir / "inside").exists(), "the shell has run"
    assert not list(outside.iterdir())
    assert eventually(lambda: not server.runs())


def test_start_refuses_a_sandbox_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: {sandbox: {kind: bubblewrap}}\n")
    (tmp_path / "bin").mkdir()
    bwrap = tmp_path / "bin" / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    command = ["-m", "app.cli", "serve", "--port", "0", "--backend", "demo", "--config", str(tmp_path / "config.yaml")]
    for path, words in (
        (f"{tmp_path}/bin:/usr/bin:/bin", "No permissions to create new namespace"),
        ("/nowhere", "apt-get install bubblewrap"),
    ):
        env = {"PATH": path, "HOME": str(tmp_path), "PYTHONPATH": os.getcwd()}
        done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert f"{tmp_path}/config.yaml:1:" in done.stderr
        assert words in done.stderr
