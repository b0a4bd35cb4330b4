"""Many runs in one process, the scripted app-server: who shares it, when it is replaced, and that a slow reader holds nobody up."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.native import events, text
from tests.parts.processes import alive, command_line, eventually, marked
from tests.parts.server import Server
from tests.server.test_back_pressure import MIB, growth
from tests.server.test_hangup import hang_up


def config(cli: FakeCli, *args: str, warm: dict[str, Any] | None = None, **limits: Any) -> dict[str, Any]:
    backend = cli.app_server(*args, warm={"max": 2} if warm is None else warm)
    return {"default_backend": "codex", "backends": {"codex": backend}, "server": {"log_level": "debug"} | limits}


def start(server: ServerFactory, cli: FakeCli, *args: str, **more: Any) -> Server:
    return server(config(cli, *args, **more))


def ask(server: Server, prompt: str = "hello", **fields: Any) -> Any:
    answer = server.client.prompt("codex", prompt, ephemeral=True, **fields)
    assert answer.status == 200, answer.body
    return answer.json


def shared(server: Server) -> list[int]:
    """The processes that wait for every folder, those that have just been retired too."""
    return [pid for pid in server.runs() if f"process {pid} waits for every folder" in server.log()]


def ready(server: Server) -> int:
    """The one shared process, asked for by a first run where there is none."""
    if not shared(server):
        ask(server)
    assert eventually(lambda: len(shared(server)) == 1)
    return shared(server)[0]


def served_by(cli: FakeCli, server: Server) -> int:
    cli.forget()
    assert ask(server)["output"] == "You said: hello"
    return cli.pid()


def test_the_second_run_finds_a_process_that_serves_everybody(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    process = ready(one)
    assert [served_by(fake_cli, one) for _ in range(3)] == [process] * 3


def test_after_so_many_runs_another_process_takes_over(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "max_uses": 2})
    old = ready(one)
    assert [served_by(fake_cli, one) for _ in range(2)] == [old, old]
    assert served_by(fake_cli, one) != old
    assert eventually(lambda: not alive(old))
    new = ready(one)
    assert served_by(fake_cli, one) == new


@pytest.mark.parametrize("warm", [{"max_age_secs": 0.2}, {"max_rss_mb": 60}], ids=["age", "memory"])
def test_a_process_that_is_old_or_has_grown_takes_no_more_runs(server: ServerFactory, fake_cli: FakeCli, warm: dict[str, Any]) -> None:
    one = start(server, fake_cli, warm={"max": 2} | warm)
    old = ready(one)
    os.kill(old, signal.SIGUSR1)
    time.sleep(0.3)  # the age that is asked for
    assert served_by(fake_cli, one) != old
    assert eventually(lambda: not alive(old))


def test_a_process_too_large_from_the_start_is_not_started_again_and_again(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "max_rss_mb": 1})
    for _ in range(6):
        ask(one)
    assert eventually(lambda: "warm processes are off for 10 minutes" in one.log())
    assert "as soon as it is up (backends.codex.warm.max_rss_mb)" in one.log()
    assert eventually(lambda: not one.runs())


def test_a_process_that_nobody_asks_for_is_ended(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "idle_secs": 0.5})
    ask(one)
    assert eventually(lambda: "waits for every folder" in one.log())
    assert eventually(lambda: not one.runs())


def test_one_that_dies_while_it_waits_costs_no_answer(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    old = ready(one)
    os.kill(old, signal.SIGKILL)
    assert served_by(fake_cli, one) != old
    assert ready(one) != old


def test_configuration_that_was_changed_is_read_by_a_new_process(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    home = tmp_path / "codex"
    home.mkdir()
    (home / "config.toml").write_text('model = "one"')
    settings = config(fake_cli)
    settings["backends"]["codex"]["env"]["CODEX_HOME"] = str(home)
    one = server(settings)
    old = ready(one)
    assert served_by(fake_cli, one) == old
    (home / "config.toml").write_text('model = "another"')
    assert served_by(fake_cli, one) != old
    assert eventually(lambda: not alive(old))


def test_a_version_that_refuses_the_protocol_is_found_out_before_it_is_asked(server: ServerFactory, fake_cli: FakeCli) -> None:
    """The rest of Codex has no other way; so the run itself tells what is wrong, and nothing waits in vain."""
    one = start(server, fake_cli, "--refuses=initialize")
    for _ in range(3):
        assert "unknown method initialize" in ask(one)["error"]
    assert eventually(lambda: "warm processes are off for 10 minutes, every run starts its own: unknown method initialize" in one.log())
    assert eventually(lambda: not one.runs())


def test_an_odd_answer_ends_nobody_s_run_and_the_process_takes_no_more(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    flag, go = tmp_path / "strange", tmp_path / "go"
    one = start(server, fake_cli, f"--strange={flag}")
    old = ready(one)
    with one.client.prompt_stream("codex", do(["say", "before "], ["wait_for", str(go)], ["say", "after"]), ephemeral=True) as stream:
        lines = stream.lines()
        begun = [next(lines), next(lines)]
        flag.touch()
        assert ask(one)["output"] == "You said: hello"  # in a process of its own
        assert alive(old)
        go.touch()
        assert text(events([*begun, *lines])) == "before after"
    assert eventually(lambda: not alive(old))


def test_a_shared_process_whose_folder_is_gone_costs_no_answer(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    old = ready(one)
    shutil.rmtree(os.readlink(f"/proc/{old}/cwd"))
    assert ask(one)["output"] == "You said: hello"
    assert "the shared process takes no more runs, its folder cannot be used: " in one.log()
    assert eventually(lambda: not alive(old))
    assert served_by(fake_cli, one) != old


def test_a_client_that_does_not_read_holds_up_nobody_and_loses_its_run(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, max_output_bytes=400 * MIB)
    process = ready(one)
    with growth(one) as most, one.client.prompt_stream("codex", do(["say", "x"], ["flood", 200]), ephemeral=True) as stream:
        lines = stream.lines()
        head = [next(lines), next(lines)]
        assert eventually(lambda: fake_cli.interrupted() == [process], 60)
        assert served_by(fake_cli, one) == process
        assert most[0] < 120 * MIB
        last = events([*head, *lines])[-1]
    assert last["type"] == "error"
    assert "the client read so slowly that 16 MB waited for it" in str(last["content"])
    assert served_by(fake_cli, one) == process


def test_a_client_that_reads_gets_all_of_a_flood(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    """Much more than may wait for it: the CLI writes the next part when the client has read the one before."""
    one = start(server, fake_cli)
    ready(one)
    before = one.log().count("a run is warm")
    gates = [tmp_path / str(number) for number in range(5)]
    steps = [step for gate in gates for step in (["flood", 8], ["wait_for", str(gate)])]
    said = 0
    with one.client.prompt_stream("codex", do(*steps), ephemeral=True) as stream:
        for arrival in stream.lines():
            if arrival.json["type"] == "message":
                said += len(arrival.json["content"])
                for gate in gates[: said // (8 * MIB)]:
                    gate.touch()
    assert said == 40 * MIB
    assert one.log().count("a run is warm") == before + 1


@pytest.mark.parametrize("change", [{"warm": {"max": 0}}, {"env": {"NEW": "1"}}], ids=["off", "other"])
def test_new_settings_leave_the_runs_of_a_shared_process_alone(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path, change: dict[str, Any]
) -> None:
    go = tmp_path / "go"
    one = start(server, fake_cli)
    old = ready(one)
    prompt = do(["say", "before "], ["wait_for", str(go)], ["say", "after"])
    with one.client.prompt_stream("codex", prompt, ephemeral=True) as stream:
        lines = stream.lines()
        head = [next(lines), next(lines)]
        new = config(fake_cli)
        new["backends"]["codex"] |= {key: new["backends"]["codex"][key] | value for key, value in change.items()}
        hang_up(one, new, "configuration reloaded")
        assert eventually(lambda: served_by(fake_cli, one) != old)
        go.touch()
        assert text(events([*head, *lines])) == "before after"
    assert eventually(lambda: not alive(old))


def test_a_server_that_stops_lets_the_runs_of_a_shared_process_finish(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    go = tmp_path / "go"
    one = start(server, fake_cli, shutdown_grace_secs=60)
    ready(one)
    prompt = do(["say", "before "], ["wait_for", str(go)], ["say", "after"])
    with one.client.prompt_stream("codex", prompt, ephemeral=True) as stream:
        lines = stream.lines()
        head = [next(lines), next(lines)]
        one.signal(signal.SIGTERM)
        assert eventually(lambda: not one.is_up())
        go.touch()
        assert text(events([*head, *lines])) == "before after"
    assert one.wait() == 0


def test_every_worker_has_its_own_and_a_killed_server_leaves_none(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, workers=2)
    assert eventually(lambda: ask(one) and len(shared(one)) == 2, 20)
    one.kill_own()
    assert eventually(lambda: not marked(one.mark)), [command_line(pid) for pid in marked(one.mark)]


def test_one_that_is_always_to_be_there_comes_back_by_itself(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 1, "min": 1})
    assert eventually(lambda: len(shared(one)) == 1)
    (old,) = shared(one)
    os.kill(old, signal.SIGKILL)
    assert eventually(lambda: any(pid != old for pid in shared(one)))
    assert served_by(fake_cli, one) in shared(one)
