"""Sessions whose process stays, with the scripted CLI: who goes on in which process, and what ends one."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.processes import alive, eventually, marked
from tests.parts.server import Server
from tests.parts.sessions import begin, fork, resume, show, turns
from tests.server.test_hangup import hang_up

LEFT = ["say", "x"], ["spawn", True, True]
"""A script whose tool leaves a process behind, in a session of its own."""


def start(server: ServerFactory, cli: FakeCli, *args: str, workers: int = 1, **warm: Any) -> Server:
    backend = cli.backend("--stays", *args, warm={"max": 2} | warm, env=cli.keeping)
    config = {"default_backend": "claude", "backends": {"claude": backend}, "server": {"log_level": "debug", "workers": workers}}
    return server(config)


def told(cli: FakeCli) -> list[tuple[int, str]]:
    """(process, prompt) of every turn, in the order of the prompts' names."""
    return sorted(((report["pid"], report["prompt"]) for report in cli.reports()), key=lambda one: one[1])


def version_of(server: Server, backend: str) -> str | None:
    backends = server.client.get("/api/v1/backends").json["backends"]
    return next(one["version"] for one in backends if one["name"] == backend)


def living(cli: FakeCli) -> set[int]:
    return {report["pid"] for report in cli.reports() if alive(report["pid"])}


def ask(server: Server, id: str, prompt: str, **fields: Any) -> Any:
    answer = resume(server.client, id, prompt, **fields)
    assert answer.status == 200, answer.body
    assert answer.json["error"] is None
    return answer.json


def test_a_session_goes_on_in_its_process(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    for prompt in ("2", "3"):
        answer = ask(one, id, prompt)
        assert (answer["output"], answer["session_id"], answer["exit_code"]) == (f"You said: {prompt}", id, 0)
    ((pid, _),) = {(pid, None) for pid, _ in told(fake_cli)}
    assert [prompt for _, prompt in told(fake_cli)] == ["1", "2", "3"]
    assert living(fake_cli) == {pid}
    assert [turn["status"] for turn in turns(one.client, id)] == ["finished"] * 3


def test_each_turn_has_cost_what_it_alone_has_cost(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    assert [ask(one, id, prompt)["cost_usd"] for prompt in ("2", "3")] == [0.25, 0.25]  # its process says 0.5 and 0.75
    assert show(one.client, id)["cost_usd"] == 0.75


def test_no_process_serves_two_sessions(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    ids = [begin(one.client, "claude", f"a{number}") for number in range(3)]
    for number, id in enumerate(ids):
        ask(one, id, f"b{number}")
    pids = {prompt: pid for pid, prompt in told(fake_cli)}
    assert [pids[f"a{number}"] for number in range(3)] == [pids[f"b{number}"] for number in range(3)]
    assert len({*pids.values()}) == 3


def test_a_process_that_waited_for_anybody_stays_with_the_session_that_took_it(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, min=1)
    assert eventually(lambda: one.log().count("waits in") == 2)
    id = begin(one.client, "claude", "1")
    ask(one, id, "2")
    (first, _), (second, _) = told(fake_cli)
    assert f"process {first} waits in" in one.log()
    assert first == second


@pytest.mark.parametrize("option", [{"model": "opus"}, {"system_prompt": "be brief"}, {"max_turns": 3}, {"approval_mode": "auto"}], ids=str)
def test_another_option_starts_another_process_once_the_first_has_gone(
    server: ServerFactory, fake_cli: FakeCli, option: dict[str, Any]
) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    ask(one, id, "2", **option)
    (first, _), (second, _) = told(fake_cli)
    assert first != second
    assert living(fake_cli) == {second}
    ask(one, id, "3", **option)
    assert told(fake_cli)[2][0] == second


def test_a_session_that_somebody_else_went_on_with_is_read_anew(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    (transcript,) = (path for path in fake_cli.transcripts if str(told(fake_cli)[0][0]) in path.name)
    with transcript.open("a") as file:
        file.write('{"by": "hand"}\n')
    ask(one, id, "2")
    (first, _), (second, _) = told(fake_cli)
    assert first != second
    assert not alive(first)


def test_rules_that_were_changed_are_read_by_another_process(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1", workdir=str(tmp_path))
    (tmp_path / "CLAUDE.md").write_text("new rules")
    ask(one, id, "2")
    (first, _), (second, _) = told(fake_cli)
    assert first != second


def test_deleting_a_session_ends_its_process_before_its_files_go(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    before = fake_cli.transcripts
    id = begin(one.client, "claude", "1")
    assert living(fake_cli)
    assert one.client.ask("DELETE", f"/api/v1/sessions/{id}").status == 200
    assert not living(fake_cli)
    assert fake_cli.transcripts == before


def test_a_fork_leaves_the_process_to_the_session_that_it_is_of(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    forked = fork(one.client, id)["id"]
    ask(one, forked, "2 of the fork")
    ask(one, id, "3")
    (first, _), (second, _), (third, _) = told(fake_cli)
    assert first == third != second


@pytest.mark.parametrize(
    "script",
    [
        do(*LEFT, about="1"),
        do(["say", "x"], ["fail", "API Error: 500", 500], about="1"),
        do(["say", "x"], ["result", False, "", None, 0], about="1"),
        do(["say", "x"], ["die", signal.SIGKILL], about="1"),
        do(["say", "x"], ["last_line"], ["say", "unasked"], ["hang"], about="1"),
    ],
    ids=["left a process behind", "failed", "ended", "was killed", "says something unasked"],
)
def test_after_a_turn_that_did_not_end_well_nothing_waits(server: ServerFactory, fake_cli: FakeCli, script: str) -> None:
    one = start(server, fake_cli)
    id = one.client.prompt("claude", script).json["session_id"]
    (first, _) = told(fake_cli)[0]
    assert resume(one.client, id, "2").json["output"] == "You said: 2"
    assert told(fake_cli)[1][0] != first
    assert not alive(first)
    if "spawn" in script:
        assert not any(map(alive, fake_cli.children()))


def test_a_cancelled_turn_ends_its_process_and_the_next_one_goes_on(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    body = {"prompt": do(["say", "x"], ["hang"], about="2"), "output_format": "stream-json"}
    with one.client.open("POST", f"/api/v1/sessions/{id}/resume", body) as stream:
        next(stream.lines())
        ((pid, _),) = {(pid, None) for pid, _ in told(fake_cli)}
        assert resume(one.client, id, "another at once").status == 409
    assert eventually(lambda: not alive(pid))
    assert eventually(lambda: show(one.client, id)["status"] == "idle")
    ask(one, id, "3")
    assert told(fake_cli)[-1][0] != pid


def test_a_process_that_dies_while_it_waits_costs_no_answer(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    (pid,) = living(fake_cli)
    os.kill(pid, signal.SIGKILL)
    assert ask(one, id, "2")["output"] == "You said: 2"


def test_a_turn_whose_process_dies_with_the_prompt_in_its_file_is_not_told_twice(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    assert resume(one.client, id, do(["init"], ["die", signal.SIGKILL], about="2")).json["error"]
    assert len(told(fake_cli)) == 2
    assert ask(one, id, "3")["output"] == "You said: 3"


def test_a_version_that_refuses_to_be_set_up_fails_and_says_what_to_install(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, "--refuses=initialize")
    assert eventually(lambda: version_of(one, "claude"))
    answer = one.client.prompt("claude", do(["wait", 60]), system_prompt="be brief").json
    assert "Claude Code 2.1.197 refused to be set up: Unsupported control request subtype: initialize" in answer["error"]
    assert "install a version from" in answer["error"]
    assert len(fake_cli.reports()) <= 1, "a process of its own would refuse as well"
    assert not living(fake_cli), "it went on with the prompt that was sent right behind"
    assert one.client.prompt("claude", "hello").json["output"] == "You said: hello"


def test_no_more_wait_than_allowed_and_the_oldest_goes_first(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, live_max=2)
    for number in range(4):
        begin(one.client, "claude", str(number))
    pids = {prompt: pid for pid, prompt in told(fake_cli)}
    assert eventually(lambda: living(fake_cli) == {pids["2"], pids["3"]})


@pytest.mark.parametrize("limit", [{"live_max": 0}, {"max_uses": 1}, {"max_rss_mb": 1}], ids=str)
def test_limits_keep_a_process_from_staying(server: ServerFactory, fake_cli: FakeCli, limit: dict[str, Any]) -> None:
    one = start(server, fake_cli, **limit)
    id = begin(one.client, "claude", "1")
    assert not living(fake_cli)
    assert ask(one, id, "2")["output"] == "You said: 2"


def test_a_process_that_waits_too_long_is_ended(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, idle_secs=0.5)
    begin(one.client, "claude", "1")
    assert eventually(lambda: not living(fake_cli))


def test_an_ephemeral_run_s_process_never_stays(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    for _ in range(3):
        assert one.client.prompt("claude", "1", ephemeral=True).status == 200
    assert not living(fake_cli)


def test_processes_that_wait_end_with_the_server(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    begin(one.client, "claude", "1")
    waiting = living(fake_cli)
    assert waiting
    one.stop()
    assert not any(map(alive, waiting))


def test_a_killed_server_leaves_no_process_that_waits(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    begin(one.client, "claude", "1")
    waiting = living(fake_cli)
    one.kill_own()
    assert eventually(lambda: not any(map(alive, waiting)))
    assert eventually(lambda: not marked(one.mark))


def test_turns_that_come_to_either_of_two_workers_go_on_from_the_one_before(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, workers=2)
    id = begin(one.client, "claude", "1")
    for number in range(2, 10):
        ask(one, id, str(number))
    by_prompt = {prompt: pid for pid, prompt in told(fake_cli)}
    order = [pid for _, pid in sorted(by_prompt.items())]
    stretches = [pid for number, pid in enumerate(order) if number == 0 or pid != order[number - 1]]
    assert len(stretches) == len({*stretches}), "a process went on after another one had"
    (transcript,) = (path for path in fake_cli.transcripts if str(order[0]) in path.name)
    said = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert [line["user"] for line in said if "user" in line] == [str(number) for number in range(1, 10)]


def test_a_turn_that_outlasts_its_pool_leaves_no_process_to_the_next_one(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    go = tmp_path / "go"
    one = start(server, fake_cli)
    id = begin(one.client, "claude", "1")
    with ThreadPoolExecutor() as threads:
        second = threads.submit(ask, one, id, do(["wait_for", str(go)], ["say", "2"]))
        try:
            fake_cli.wait_for(2)
            backend = fake_cli.backend("--stays", warm={"max": 0}, env=fake_cli.keeping)
            hang_up(one, {"default_backend": "claude", "backends": {"claude": backend}}, "configuration reloaded")
        finally:
            go.touch()
        assert second.result()["output"] == "2"
    assert living(fake_cli) == set()
    assert ask(one, id, "3")["output"] == "You said: 3"
    assert len({pid for pid, _ in told(fake_cli)}) == 2
