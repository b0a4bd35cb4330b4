"""Sessions in the shared process of Codex, the scripted app-server: loaded for a turn, let go of at its end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.processes import alive, eventually
from tests.parts.server import Server
from tests.parts.sessions import begin, fork, resume, show


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "codex"
    folder.mkdir()
    return folder


def start(server: ServerFactory, cli: FakeCli, home: Path, *args: str) -> Server:
    backend = cli.app_server(*args, warm={"max": 2}, env={"CODEX_HOME": str(home)})
    one = server({"default_backend": "codex", "backends": {"codex": backend}, "server": {"log_level": "debug"}})
    assert one.client.prompt("codex", "start it", ephemeral=True).status == 200
    assert eventually(lambda: "waits for every folder" in one.log())
    return one


def ask(server: Server, id: str, prompt: str, **fields: Any) -> Any:
    answer = resume(server.client, id, prompt, **fields)
    assert answer.status == 200, answer.body
    assert answer.json["error"] is None
    return answer.json


def locks(home: Path) -> list[Path]:
    return list(home.glob("*.lock"))


def rollouts(home: Path, folder: str = "sessions") -> list[Path]:
    return list((home / folder).rglob("*.jsonl"))


def pids(cli: FakeCli, *prompts: str) -> list[int]:
    return [report["pid"] for prompt in prompts for report in cli.reports() if report["prompt"] == prompt]


def test_turns_of_a_session_share_the_process_and_leave_it_to_nobody(server: ServerFactory, fake_cli: FakeCli, home: Path) -> None:
    one = start(server, fake_cli, home)
    id = begin(one.client, "codex", "1")
    assert locks(home) == []
    assert ask(one, id, "2", model="other")["output"] == "You said: 2"
    assert len({*pids(fake_cli, "1", "2")}) == 1
    (rollout,) = rollouts(home)
    assert [line.count("prompt") for line in rollout.read_text().splitlines()] == [1, 1]
    assert locks(home) == []


def test_a_session_that_somebody_has_open_is_not_written_to(server: ServerFactory, fake_cli: FakeCli, home: Path) -> None:
    one = start(server, fake_cli, home)
    id = begin(one.client, "codex", "1")
    (rollout,) = rollouts(home)
    lock = home / f"{rollout.stem[-36:]}.lock"
    lock.touch()
    assert "already has an active writer" in resume(one.client, id, "2").json["error"]
    lock.unlink()
    assert ask(one, id, "3")["output"] == "You said: 3"


def test_a_session_that_cannot_be_let_go_retires_the_process_with_it(server: ServerFactory, fake_cli: FakeCli, home: Path) -> None:
    one = start(server, fake_cli, home, "--refuses=thread/archive")
    begin(one.client, "codex", "1")
    assert "could not be unloaded" in one.log()
    assert eventually(lambda: not any(map(alive, pids(fake_cli, "1"))))


def test_a_process_that_ends_while_it_lets_go_costs_no_session(server: ServerFactory, fake_cli: FakeCli, home: Path) -> None:
    one = start(server, fake_cli, home, "--dies-in-between")
    id = begin(one.client, "codex", "1")
    assert (len(rollouts(home)), len(rollouts(home, "archived_sessions"))) == (0, 1)
    assert resume(one.client, id, "2").json["output"] == "You said: 2"


def test_a_cancelled_turn_is_let_go_too(server: ServerFactory, fake_cli: FakeCli, home: Path) -> None:
    one = start(server, fake_cli, home)
    id = begin(one.client, "codex", "1")
    body = {"prompt": do(["say", "x"], ["hang"]), "output_format": "stream-json"}
    with one.client.open("POST", f"/api/v1/sessions/{id}/resume", body) as stream:
        next(stream.lines())
        assert resume(one.client, id, "at once").status == 409
        assert len(locks(home)) == 1
    assert eventually(lambda: not locks(home) and show(one.client, id)["status"] == "idle")
    assert ask(one, id, "3")["output"] == "You said: 3"


def test_a_process_that_dies_in_a_turn_is_not_told_the_prompt_again(server: ServerFactory, fake_cli: FakeCli, home: Path) -> None:
    one = start(server, fake_cli, home)
    id = begin(one.client, "codex", "1")
    body = {"prompt": do(["hang"], about="2"), "output_format": "stream-json"}
    with one.client.open("POST", f"/api/v1/sessions/{id}/resume", body) as stream:
        arrivals = stream.lines()
        assert eventually(lambda: any(report["prompt"].startswith("2") for report in fake_cli.reports()))
        (pid,) = {report["pid"] for report in fake_cli.reports() if report["prompt"].startswith("2")}
        os.kill(pid, signal.SIGKILL)
        assert [arrival.json["type"] for arrival in arrivals][-1] == "error"
    assert sum(report["prompt"].startswith("2") for report in fake_cli.reports()) == 1


def test_deleting_and_forking_work_between_turns(server: ServerFactory, fake_cli: FakeCli, home: Path) -> None:
    one = start(server, fake_cli, home)
    id = begin(one.client, "codex", "1")
    forked = fork(one.client, id)["id"]
    assert ask(one, forked, "2 of the fork")["output"] == "You said: 2 of the fork"
    assert ask(one, id, "3")["output"] == "You said: 3"
    for session in (id, forked):
        assert one.client.ask("DELETE", f"/api/v1/sessions/{session}").status == 200
    assert rollouts(home) == []
