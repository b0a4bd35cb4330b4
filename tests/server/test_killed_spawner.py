"""A CLI, or somebody else, kills or stops the server's own processes: runs end truthfully, others go on, nothing outlives anything."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.processes import alive, children, command_line, eventually
from tests.parts.server import Server

RUNS = 8
START_S = 2.0


@pytest.fixture
def one(server: ServerFactory, fake_cli: FakeCli) -> Server:
    config = {"backends": {"claude": fake_cli.backend()}, "server": {"max_concurrent_runs": RUNS + 2, "request_timeout_secs": 60}}
    return server(config)


def spawner_of(one: Server) -> int:
    (worker,) = one.workers()
    (spawner,) = [pid for pid in children(worker) if "spawner_program.py" in command_line(pid) and alive(pid)]
    return spawner


def ask(one: Server, *steps: list[Any]) -> Any:
    return one.client.prompt("claude", do(*steps))


def test_eight_runs_end_truthfully_when_the_spawner_is_killed_and_the_next_one_starts(
    one: Server, fake_cli: FakeCli, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    with ThreadPoolExecutor(RUNS) as pool:
        runs = [pool.submit(ask, one, ["say", f"before {number} "], ["wait_for", str(go)], ["say", "after"]) for number in range(RUNS)]
        fake_cli.wait_for(RUNS)
        killed = spawner_of(one)
        os.kill(killed, signal.SIGKILL)
        begun = monotonic()
        assert ask(one, ["say", "next"]).json["output"] == "next"
        took_s = monotonic() - begun
        go.touch()
        answers = [run.result(60).json for run in runs]
    print(f"the next run was answered {took_s:.2f} s after the spawner was killed")
    assert [(answer["output"], answer["error"], answer["exit_code"]) for answer in answers] == [
        (f"before {number} after", None, 0) for number in range(RUNS)
    ]
    assert took_s < START_S * 5, "the machine may be busy; no limit that a run could meet is near"
    assert f"the process spawner (pid {killed}) was ended by SIGKILL" in one.log()
    # An idle supervisor of the killed spawner may have answered before the replacement is ready.
    assert eventually(lambda: one.client.get("/health").json["spawner"] == {"status": "ok", "replacements": 1})
    assert spawner_of(one) != killed
    assert eventually(lambda: not one.runs())


def test_a_run_that_kills_its_own_supervisor_and_the_spawner_fails_and_leaves_no_daemon(one: Server, fake_cli: FakeCli) -> None:
    answer = ask(one, ["say", "x"], ["daemon", 3600], ["signal", 9, "supervisor", "spawner"], ["hang"])
    assert (answer.json["output"], answer.json["exit_code"]) == ("x", None)
    assert answer.json["error"]
    assert eventually(lambda: not [pid for pid in (fake_cli.pid(), *fake_cli.children()) if alive(pid)])
    assert ask(one, ["say", "next"]).json["output"] == "next"


@pytest.mark.parametrize("who", [["supervisor"], ["spawner"], ["supervisor", "spawner"]])
def test_a_run_that_stops_its_supervisor_and_the_spawner_is_answered_soon_after_its_time_limit(
    one: Server, fake_cli: FakeCli, who: list[str]
) -> None:
    begun = monotonic()
    answer = one.client.prompt("claude", do(["say", "x"], ["daemon", 3600], ["signal", 19, *who], ["hang"]), timeout_secs=1)
    took_s = monotonic() - begun
    print(f"answered after {took_s:.1f} s")
    assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
    assert eventually(lambda: not [pid for pid in (fake_cli.pid(), *fake_cli.children()) if alive(pid)])
    assert ask(one, ["say", "next"]).json["output"] == "next"
    if "spawner" in who:
        assert eventually(lambda: one.client.get("/health").json["spawner"] == {"status": "ok", "replacements": 1})
        assert "did not respond 3 times and was killed" in one.log()
