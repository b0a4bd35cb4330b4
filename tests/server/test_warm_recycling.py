"""When processes that wait are ended, and when none are started: memory, age, and what the server is told while it runs."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tests.conftest import ServerFactory
from tests.parts.client import Arrival, Stream
from tests.parts.clis import FAKE_COMMAND, FakeCli, do
from tests.parts.native import events, text
from tests.parts.processes import alive, descendants, eventually, marked
from tests.server.test_hangup import hang_up
from tests.server.test_warm_fake_cli import ask, ready, start, waiting


def test_where_memory_is_short_nothing_is_started_beforehand(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "min": 1, "min_free_mb": 1 << 30})
    for _ in range(4):
        assert ask(one)["output"] == "You said: hello"
        assert not waiting(one)


def test_a_process_that_grew_too_large_while_it_waited_is_ended(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "min": 1, "max_rss_mb": 60})
    old = ready(one)
    os.kill(old[0], signal.SIGUSR1)
    assert eventually(lambda: not alive(old[0]))
    assert ready(one, 2) != old
    assert alive(old[1])


def test_a_process_that_is_always_to_be_there_is_replaced_when_it_is_old(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "min": 1, "max_age_secs": 1})
    old = ready(one)
    assert eventually(lambda: not any(map(alive, old)))
    assert eventually(lambda: waiting(one))


def test_processes_that_die_while_they_wait_cost_no_answer(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    for pid in ready(one):
        os.kill(pid, signal.SIGKILL)
    assert ask(one)["output"] == "You said: hello"
    assert len(fake_cli.reports()) == 1
    assert eventually(lambda: len(waiting(one)) >= 2)


def test_a_cli_that_is_replaced_by_one_that_speaks_differently_is_found_out_before_it_is_asked(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path
) -> None:
    program = tmp_path / "claude"

    def install(*args: str) -> None:
        new = tmp_path / "new"
        new.write_text(f'#!/bin/sh\nexec {shlex.join([*FAKE_COMMAND, *args])} "$@"\n')
        new.chmod(0o755)
        new.rename(program)

    install()
    config = {"command": str(program), "env": fake_cli.backend()["env"], "warm": {"min": 1}}
    one = server({"default_backend": "claude", "backends": {"claude": config}, "server": {"log_level": "debug"}})
    old = ready(one)
    install("--refuses=mcp_status", "--refuses=initialize")
    assert ask(one, ephemeral=True)["output"] == "You said: hello"
    assert fake_cli.pid() in old
    for _ in range(3):
        assert ask(one, ephemeral=True)["output"] == "You said: hello"
    assert eventually(lambda: "warm processes are off for 10 minutes, every run starts its own: Unsupported control request" in one.log())
    assert ask(one, ephemeral=True)["output"] == "You said: hello"
    assert "a run is warm" not in one.log().rpartition("warm processes are off")[2]


def warm_config(cli: FakeCli, *keys: str, warm: dict[str, Any] | None = None, **server: Any) -> dict[str, Any]:
    backend = cli.backend(warm={"max": 3, "min": 1} if warm is None else warm)
    return {
        "default_backend": "claude",
        "backends": {"claude": backend},
        "server": {"log_level": "debug", "api_keys": [*keys], **server},
    }


def begun(stream: Stream) -> Iterator[Arrival]:
    """The stream's lines, the first ones read: its run has said something."""
    lines = stream.lines()
    head = [next(lines), next(lines)]
    return chain(head, lines)


def test_new_settings_end_what_waits_and_leave_what_runs_alone(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    go = tmp_path / "go"
    one = server(warm_config(fake_cli))
    old = ready(one)
    with one.client.prompt_stream("claude", do(["say", "before "], ["wait_for", str(go)], ["say", "after"])) as stream:
        lines = begun(stream)
        assert fake_cli.pid() in old
        config = warm_config(fake_cli)
        config["backends"]["claude"]["env"]["NEW_SETTING"] = "in force"
        hang_up(one, config, "configuration reloaded")
        assert eventually(lambda: not any(alive(pid) for pid in old if pid != fake_cli.pid()))
        go.touch()
        assert text(events(lines)) == "before after"
    new = ready(one)
    assert not set(new) & set(old)
    fake_cli.forget()
    ask(one)
    assert fake_cli.pid() in new
    assert "NEW_SETTING" in fake_cli.reports()[0]["env"]


def test_settings_that_are_as_they_were_end_nothing(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(warm_config(fake_cli))
    old = ready(one)
    hang_up(one, warm_config(fake_cli, "new=Zq8vT3nLw2Xr7Kd5"), "keys: new")
    one.client.headers["Authorization"] = "Bearer Zq8vT3nLw2Xr7Kd5"
    assert eventually(lambda: one.client.get("/api/v1/backends").status == 200)
    assert ready(one) == old
    ask(one)
    assert fake_cli.pid() in old


def test_warm_processes_can_be_switched_off_and_on_again(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(warm_config(fake_cli))
    ready(one)
    hang_up(one, warm_config(fake_cli, warm={"max": 0}), "configuration reloaded")
    assert eventually(lambda: not one.runs())
    for _ in range(3):
        ask(one)
    assert "a run is warm" not in one.log()
    hang_up(one, warm_config(fake_cli), "configuration reloaded")
    fake_cli.forget()
    before = ready(one)
    ask(one)
    assert fake_cli.pid() in before


def test_a_server_that_stops_ends_what_waits_at_once_and_lets_runs_finish(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    go = tmp_path / "go"
    one = server(warm_config(fake_cli, shutdown_grace_secs=60))
    idle = ready(one)
    with one.client.prompt_stream("claude", do(["say", "before "], ["wait_for", str(go)], ["say", "after"])) as stream:
        lines = begun(stream)
        ready(one)
        one.signal(signal.SIGTERM)
        assert eventually(lambda: one.runs() == [fake_cli.pid()])
        assert fake_cli.pid() in idle
        go.touch()
        assert text(events(lines)) == "before after"
    assert one.wait() == 0


def test_each_worker_has_processes_of_its_own_and_takes_them_along(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(warm_config(fake_cli, workers=2))
    ready(one, 4)
    first, second = (set(descendants(pid)) & set(waiting(one)) for pid in one.workers())
    assert (len(first), len(second)) == (2, 2)
    for number in range(6):
        assert ask(one, f"run {number}")["output"] == f"You said: run {number}"
    reports = fake_cli.reports()
    assert len({report["pid"] for report in reports}) == len(reports) == 6
    killed, _ = one.workers()
    theirs = set(descendants(killed)) & set(waiting(one))
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: not any(map(alive, theirs)))
    assert eventually(lambda: len(waiting(one)) >= 4)  # the worker that took its place has its own
    one.kill_own()
    assert eventually(lambda: not marked(one.mark))
