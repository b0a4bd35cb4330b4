"""Warm processes of the scripted CLI: who gets which, what is kept, what is ended, and what happens when one fails."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.native import events, text
from tests.parts.processes import MARK, alive, command_line, eventually, marked
from tests.parts.server import Server

WARM = {"max": 3, "min": 1}


def start(server: ServerFactory, cli: FakeCli, *args: str, warm: dict[str, Any] | None = None, **limits: Any) -> Server:
    backend = cli.backend(*args, warm=WARM if warm is None else warm)
    return server({"default_backend": "claude", "backends": {"claude": backend}, "server": {"log_level": "debug"} | limits})


def waiting(server: Server) -> list[int]:
    """Processes that were started beforehand and have not been asked anything."""
    return [pid for pid in server.runs() if "--input-format=stream-json" in command_line(pid)]


def ready(server: Server, count: int = 2) -> list[int]:
    """The processes that wait, once that is so many: one for stateless runs and one for the others are there from the start on."""
    assert eventually(lambda: len(pids := waiting(server)) == count and all(f"process {pid} waits" in server.log() for pid in pids))
    return waiting(server)


def ask(server: Server, prompt: str = "hello", **fields: Any) -> Any:
    answer = server.client.prompt("claude", prompt, **fields)
    assert answer.status == 200, answer.body
    return answer.json


def test_a_process_that_was_there_before_the_request_answers_it(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    before = ready(one)
    assert ask(one)["output"] == "You said: hello"
    assert fake_cli.pid() in before
    assert not alive(fake_cli.pid())


def test_what_is_ready_is_told_in_the_list_of_backends(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    ready(one)
    warm = {backend["name"]: backend["warm"] for backend in one.client.get("/api/v1/backends").json["backends"]}
    assert warm["claude"] == {"max": 3, "ready": 2}
    assert warm["demo"] is None


def test_every_run_has_a_process_that_nobody_had_before(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    for number in range(5):
        assert ask(one, f"secret {number}")["output"] == f"You said: secret {number}"
    reports = fake_cli.reports()
    assert len({report["pid"] for report in reports}) == len(reports) == 5
    assert all(sum(f"secret {number}" in report["prompt"] for number in range(5)) == 1 for report in reports)


def test_a_kind_of_run_that_is_asked_for_again_and_again_gets_warm_processes(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path
) -> None:
    one = start(server, fake_cli, warm={"max": 3})
    assert waiting(one) == []
    for _ in range(2):
        ask(one, workdir=str(tmp_path), model="sonnet", system_prompt="be brief")
    (process,) = ready(one, 1)
    assert fake_cli.initialized()[process]["systemPrompt"] == ["be brief"]
    fake_cli.forget()
    ask(one, workdir=str(tmp_path), model="sonnet", system_prompt="be brief")
    assert fake_cli.pid() == process


def test_a_process_with_another_system_prompt_is_never_used(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    for number in range(4):
        ask(one, f"run {number}", system_prompt=f"prompt {number}")
        ask(one, f"plain {number}")
    initialized = fake_cli.initialized()
    for report in fake_cli.reports():
        name, _, number = report["prompt"].partition(" ")
        told = initialized.get(report["pid"], {}).get("systemPrompt")
        assert told == ([f"prompt {number}"] if name == "run" else None)


def test_what_no_warm_process_can_be_told_starts_one_of_its_own(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    before = ready(one)
    ask(one, max_turns=3)
    (report,) = fake_cli.reports()
    assert report["pid"] not in before
    assert "--max-turns=3" in report["argv"]


def test_runs_that_are_held_to_limits_start_within_them(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, run_limits={"cpu_secs": 60})
    for _ in range(3):
        assert ask(one)["output"] == "You said: hello"
    assert waiting(one) == []


def test_never_more_processes_wait_than_allowed(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    one = start(server, fake_cli, warm={"max": 2})
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:
        folder.mkdir()
        for _ in range(3):
            ask(one, workdir=str(folder))
            assert len(waiting(one)) <= 2
    assert eventually(lambda: 1 <= len(waiting(one)) <= 2)


def test_a_process_that_waits_too_long_is_ended(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "idle_secs": 0.5})
    ask(one)
    ask(one)
    assert eventually(lambda: waiting(one))
    assert eventually(lambda: not waiting(one))


def test_rules_that_were_changed_are_read_by_a_new_process(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    one = start(server, fake_cli, warm={"max": 2})
    ask(one, workdir=str(tmp_path))
    ask(one, workdir=str(tmp_path))
    assert eventually(lambda: waiting(one))
    old = waiting(one)
    (tmp_path / "CLAUDE.md").write_text("new rules")
    fake_cli.forget()
    ask(one, workdir=str(tmp_path))
    assert fake_cli.pid() not in old


def test_after_a_run_that_used_tools_nobody_gets_a_process_from_before_it(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    one = start(server, fake_cli, warm={"max": 2})
    ask(one, workdir=str(tmp_path))
    ask(one, workdir=str(tmp_path))
    assert eventually(lambda: waiting(one))
    old = waiting(one)
    ask(one, do(["tool", "git commit", "done"], ["say", "ok"]), workdir=str(tmp_path), max_turns=9)
    assert eventually(lambda: not any(map(alive, old)))


def test_a_process_that_dies_before_it_said_anything_is_replaced_by_a_new_one(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    ready(one)
    flag = one.workdir / "died"
    prompt = do(["init"], ["die_once", str(flag)], ["say", "second life"])
    with one.client.prompt_stream("claude", prompt) as stream:
        found = events(stream.lines())
    assert text(found) == "second life"
    assert [event["type"] for event in found].count("init") == 1
    assert [found[0]["type"], found[-1]["type"]] == ["init", "done"]
    assert len(fake_cli.reports()) == 2
    assert "failed before any output" in one.log()


def test_a_process_that_dies_after_it_said_something_is_not_asked_again(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    ready(one)
    with one.client.prompt_stream("claude", do(["say", "half"], ["die", signal.SIGKILL])) as stream:
        found = events(stream.lines())
    assert (text(found), found[-1]["type"]) == ("half", "error")
    assert len(fake_cli.reports()) == 1


def test_a_failure_of_the_model_s_is_no_failure_of_the_process_s(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    answer = ask(one, do(["fail", "API Error: 500", 500]))
    assert answer["exit_code"] == 1
    assert "API Error: 500" in answer["error"]
    assert len(fake_cli.reports()) == 1


@pytest.mark.parametrize("subtype", ["mcp_status", "initialize"])
def test_a_version_that_refuses_the_protocol_is_found_out_before_it_is_asked(
    server: ServerFactory, fake_cli: FakeCli, subtype: str
) -> None:
    one = start(server, fake_cli, f"--refuses={subtype}", warm={"max": 2})
    for number in range(4):
        prompt = {} if subtype == "initialize" else {"system_prompt": f"prompt {number}"}
        assert ask(one, ephemeral=True, **prompt)["output"] == "You said: hello"
    assert eventually(lambda: "warm processes are off" in one.log())
    assert eventually(lambda: not waiting(one))


def test_a_client_that_leaves_interrupts_first_and_nothing_is_left(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    ready(one)
    with one.client.prompt_stream("claude", do(["say", "x"], ["spawn", True, True], ["hang"])) as stream:
        next(stream.lines())
        pid, children = fake_cli.pid(), fake_cli.children()
    assert eventually(lambda: not any(map(alive, [pid, *children])))
    assert fake_cli.interrupted() == [pid]


def test_processes_that_wait_end_with_the_server(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    idle = ready(one)
    one.stop()
    assert not any(map(alive, idle))


def test_a_killed_server_leaves_no_process_that_waits(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    idle = ready(one)
    one.kill_own()
    assert eventually(lambda: not any(map(alive, idle)))
    assert eventually(lambda: not marked(one.mark)), MARK
