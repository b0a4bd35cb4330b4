"""The server is killed with -9, all of its processes at once, while real CLIs run in the background and other runs wait."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import NO_WAY_OUT, RealCli, cli_path
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.native import events
from tests.parts.processes import alive, command_line, eventually
from tests.parts.server import Server

RUNS = "/api/v1/runs"
ENDLESS = "tail -f /dev/null"
AT_ONCE_S = 2.0


def kill_all_at_once(server: Server) -> None:
    """Stopped first, so that none of them sees the end of another and cleans up."""
    own = server.own()
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in own:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    server.wait()
    assert eventually(lambda: not any(map(alive, own)))


@pytest.mark.smoke
def test_what_a_killed_server_ran_is_lost_at_once_with_all_processes_and_what_waited_is_served(
    real_cli: RealCli, model_api: FakeModelApi, server: ServerFactory, tmp_path: Path
) -> None:
    model_api.script("work forever", Reply(text="", shell=ENDLESS), Reply(text="done"))
    model_api.script("say hello", Reply(text="hello"))
    workdir = tmp_path / "project"
    workdir.mkdir()
    config = {"backends": {real_cli.name: real_cli.backend}, "server": {"max_concurrent_runs": 1}}
    env = {**real_cli.env, **NO_WAY_OUT, "PATH": cli_path()}
    house = server(config, env)
    asked = {"backend": real_cli.name, "workdir": str(workdir), "background": True, **real_cli.shell_options}
    lost, waiting = (
        house.client.post("/api/v1/prompt", {**asked, "prompt": prompt}).json["id"] for prompt in ("work forever", "say hello")
    )
    assert eventually(lambda: any(ENDLESS in command_line(pid) for pid in house.runs())), "the tool's shell has not started"
    tree = house.runs()
    kill_all_at_once(house)

    client = server(config, {**env, "CLINVK_HOME": str(house.clinvk_home)}).client
    assert not [command_line(pid) for pid in tree if alive(pid)]
    assert eventually(lambda: client.get(f"{RUNS}/{lost}").json["status"] == "failed", AT_ONCE_S)
    assert client.get(f"{RUNS}/{lost}").json["error"]["code"] == "worker_lost"
    with client.open("GET", f"{RUNS}/{lost}/events") as stream:
        assert events(stream.events())[-1]["content"]["code"] == "worker_lost"
    served = client.get(f"{RUNS}/{waiting}?wait=60").json
    assert (served["status"], served["result"]["output"]) == ("completed", "hello")
    assert len(model_api.about("say hello")) == 1
