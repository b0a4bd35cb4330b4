"""`clinvk runs …` and `--background` as real processes, against a real server with the scripted CLI."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.command import Command
from tests.parts.native import text
from tests.parts.processes import eventually, marked
from tests.parts.server import Server

KEY = "a-key-for-the-tests"
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}
END_S = 60


def config_of(cli: FakeCli, **server: Any) -> dict[str, Any]:
    return {"default_backend": "claude", "backends": {"claude": cli.backend(warm={"max": 0})}, "server": server}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, scripted_cli: FakeCli) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), config_of(scripted_cli), {"CLINVK_API_KEY": KEY})
    yield server
    server.stop()


@pytest.fixture
def clinvk(running: Server, tmp_path: Path) -> Command:
    return command_for(running.url, tmp_path)


def command_for(url: str, folder: Path) -> Command:
    return Command(folder, f"client-{folder.name}", {"CLINVK_SERVER_URL": url, "CLINVK_API_KEY": KEY})


def told(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    assert done.returncode == code, done.stderr
    return done.stdout


def submitted(server: Server, prompt: str, **fields: Any) -> str:
    """The id of a run in the background."""
    answer = server.client.post("/api/v1/prompt", {"prompt": prompt, "background": True, **fields}, headers=AUTHORIZED)
    assert answer.status == 202, answer.body
    return str(answer.json["id"])


def run_of(server: Server, id: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.client.get(f"/api/v1/runs/{id}", headers=AUTHORIZED).json
    return answer


def shown_by(process: subprocess.Popen[bytes], until: str) -> str:
    """What the command has written to standard output, once that ends with ``until``."""
    assert process.stdout
    shown = b""
    while not shown.decode(errors="replace").endswith(until):
        more = os.read(process.stdout.fileno(), 1_000)
        assert more, f"it ended after {shown!r}"
        shown += more
    return shown.decode()


def test_background_prints_the_id_alone_and_how_to_follow(clinvk: Command, running: Server) -> None:
    done = clinvk("prompt", "--background", "--priority", "2", do(["say", "é漢字"]))
    id = told(done).removesuffix("\n")
    assert done.stderr == f"follow it with: clinvk runs follow {id}\n"
    assert told(clinvk("runs", "wait", id)) == "é漢字\n"
    run = run_of(running, id)
    assert (run["background"], run["priority"], run["status"]) == (True, 2, "completed")


def test_background_with_json_prints_the_run(clinvk: Command, running: Server) -> None:
    run = json.loads(told(clinvk("prompt", "--background", "--json", "x")))
    assert run["id"].startswith("run_")
    assert run["status"] in ("queued", "running")


def test_a_session_goes_on_in_the_background(clinvk: Command) -> None:
    session = json.loads(told(clinvk("prompt", "-b", "demo", "one", "--json")))["session_id"]
    id = told(clinvk("sessions", "resume", session, "two", "--background")).strip()
    assert told(clinvk("runs", "follow", id)).endswith("two\n")
    assert json.loads(told(clinvk("runs", "list", "--session", session, "--json")))["runs"][0]["kind"] == "resume"


@pytest.mark.parametrize(
    ("command", "body", "shown"),
    [
        (("parallel", "-f", "-"), [{"prompt": "one"}, {"prompt": "two"}], ("== task 0", "You said: one\n", "== task 1", "You said: two\n")),
        (("chain", "-f", "-"), [{"prompt": "one"}, {"prompt": "two {{previous}}"}], ("You said: two You said: one\n",)),
        (("compare", "-b", "claude,claude/other", "-"), "one", ("== task 0", "You said: one\n", "== task 1")),
    ],
    ids=["parallel", "chain", "compare"],
)
def test_composed_runs_go_on_in_the_background_and_are_shown_as_by_their_command(
    clinvk: Command, command: tuple[str, ...], body: Any, shown: tuple[str, ...]
) -> None:
    id = told(clinvk(*command, "--background", stdin=body if isinstance(body, str) else json.dumps(body))).strip()
    followed = told(clinvk("runs", "follow", id))
    places = [followed.find(part) for part in shown]
    assert places == sorted(places)
    assert -1 not in places
    assert told(clinvk("runs", "wait", id)) == followed


def test_a_composed_run_with_a_failed_part_is_exit_code_1(clinvk: Command) -> None:
    id = told(clinvk("parallel", "-f", "-", "--background", stdin=json.dumps([{"prompt": do(["fail", "no luck"])}]))).strip()
    assert "no luck" in told(clinvk("runs", "follow", id), 1)
    assert "no luck" in told(clinvk("runs", "wait", id), 1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("prompt", "x", "--priority", "1"), "add --background"),
        (("prompt", "x", "--retry"), "add --background"),
        (("prompt", "x", "--background", "--ndjson"), "clinvk runs follow ID --json"),
        (("prompt", "x", "--background", "--priority", "10"), "--priority"),
        (("runs", "show", "zzz"), "`clinvk runs list` shows them"),
        (("runs", "show", ""), "`clinvk runs list` shows them"),
        (("runs", "follow", "run_" + "0" * 24), "`clinvk runs list` shows your runs"),
        (("runs", "cancel", "run_" + "0" * 24), "there is no run"),
        (("runs", "follow", "run_" + "0" * 24, "--after", "x"), "--after"),
        (("runs", "list", "--status", "done"), "choose from"),
    ],
)
def test_a_wrong_command_is_exit_code_2_and_says_what_to_do(clinvk: Command, args: tuple[str, ...], message: str) -> None:
    done = clinvk(*args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("prompt", "x", "--background"), ("runs", "list"), ("runs", "follow", "run_1")], ids=" ".join)
def test_without_a_server_none_is_started(tmp_path: Path, scripted_cli: FakeCli, args: tuple[str, ...]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config_of(scripted_cli, port=port)))
    alone = Command(tmp_path, f"alone-{tmp_path.name}", {"CLINVK_CONFIG": str(tmp_path / "config.yaml")})
    done = alone(*args)
    assert done.returncode == 3
    assert "clinvk serve" in done.stderr
    assert not marked(alone.mark)


def test_an_id_may_be_cut_short_while_it_is_one_run_s(clinvk: Command, running: Server) -> None:
    submitted(running, "another")
    id = submitted(running, "short")
    for short in (id[:16], id.removeprefix("run_")[:12]):
        assert told(clinvk("runs", "wait", short)) == "You said: short\n"
    done = clinvk("runs", "show", "run_")
    assert told(done, 2) == ""
    assert "of your runs begin with 'run_': " in done.stderr
    assert id in done.stderr


def test_the_list_has_the_place_in_the_queue_the_time_and_the_last_tool(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    one = server(config_of(fake_cli, max_concurrent_runs=1), {"CLINVK_API_KEY": KEY})
    clinvk = command_for(one.url, tmp_path)
    first = submitted(one, do(["tool", "echo hi", "hi"], ["hang"]), title="the first")
    assert eventually(lambda: run_of(one, first)["last_tool"])
    second = submitted(one, "x")
    rows = {line.split()[0]: line for line in told(clinvk("runs", "list")).splitlines()}
    assert list(rows) == ["RUN", second, first]
    assert "queued (place 1)  prompt  claude" in rows[second]
    assert rows[first].endswith("  Bash       the first")
    assert "running" in rows[first]
    assert [run["id"] for run in json.loads(told(clinvk("runs", "list", "--status", "queued", "--json")))["runs"]] == [second]
    done = clinvk("runs", "list", "--limit", "1")
    assert first not in told(done)
    cursor = done.stderr.split()[-1]
    assert first in told(clinvk("runs", "list", "--limit", "1", "--cursor", cursor))

    done = clinvk("runs", "cancel", second, first)
    assert told(done) == ""
    assert done.stderr == f"{second} is cancelled\n{first} is being stopped\n"
    assert eventually(lambda: run_of(one, first)["status"] == "cancelled")


def test_show_has_the_facts_and_the_output(clinvk: Command, running: Server) -> None:
    id = submitted(running, do(["say", "the output"]), title="a title", tags=["red"])
    told(clinvk("runs", "wait", id))
    shown = told(clinvk("runs", "show", id))
    assert shown.startswith(f"id: {id}\nkind: prompt\nstatus: completed\ntitle: a title\ntags: red\nbackend: claude\n")
    assert shown.endswith("\n\nthe output\n")


def test_follow_shows_a_run_from_its_beginning_as_prompt_does(clinvk: Command, running: Server) -> None:
    steps = do(["say", "before "], ["tool", "echo hi", "hi"], ["say", "after"])
    id = submitted(running, steps)
    assert told(clinvk("runs", "follow", id)) == told(clinvk("prompt", steps)) == "before \n\nafter\n"
    code, shown = clinvk.on_a_terminal("runs", "follow", id)
    assert code == 0
    assert "Bash: echo hi\r\n" in shown
    assert "continue with: clinvk prompt --session " in shown


def test_follow_with_json_is_every_event_and_after_leaves_out_those_that_are_known(clinvk: Command, running: Server) -> None:
    id = submitted(running, do(["tokens", 3]))
    events = [json.loads(line) for line in told(clinvk("runs", "follow", id, "--json")).splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert (events[0]["type"], events[-1]["type"], text(events)) == ("init", "done", "tok0 tok1 tok2")
    rest = [json.loads(line) for line in told(clinvk("runs", "follow", id, "--json", "--after", "2")).splitlines()]
    assert rest == events[2:]
    assert told(clinvk("runs", "follow", id, "--json", "--after", str(len(events)))) == ""


def test_follow_shows_what_a_compatible_surface_said(clinvk: Command, running: Server) -> None:
    for path, more in (("/openai/v1/chat/completions", {}), ("/anthropic/v1/messages", {"max_tokens": 99})):
        body = {"model": "claude", "messages": [{"role": "user", "content": "hi"}], "stream": True, **more}
        headers = {"Authorization": f"Bearer {KEY}", "Idempotency-Key": f"k{path}"}
        answer = running.client.post(path, body, headers=headers)
        id = answer.headers["X-Clinvk-Run-Id"]
        for action in ("follow", "wait"):
            assert told(clinvk("runs", action, id)) == "You said: hi\n"


def test_a_run_that_failed_is_exit_code_1_and_says_why(clinvk: Command, running: Server) -> None:
    id = submitted(running, do(["deny", "Write", {}, "not allowed"], ["say", "partial"], ["fail", "no luck"]))
    for action in ("follow", "wait"):
        done = clinvk("runs", action, id)
        assert told(done, 1) == "partial\n"
        assert done.stderr == "refused: Write: not allowed\nclinvk: no luck\n"


def test_a_command_whose_run_is_cancelled_elsewhere_says_so(clinvk: Command, running: Server) -> None:
    process = clinvk.start("compare", "-b", "claude,claude/other", do(["hang"]))

    def found() -> list[dict[str, Any]]:
        return list(running.client.get("/api/v1/runs?kind=compare&status=running", headers=AUTHORIZED).json["runs"])

    assert eventually(found)
    told(clinvk("runs", "cancel", found()[0]["id"]))
    output, errors = process.communicate(timeout=END_S)
    assert (process.returncode, output) == (1, b"")
    assert errors.startswith(b"clinvk: ")
    assert b"Traceback" not in errors


@pytest.mark.parametrize("action", ["follow", "wait"])
def test_ctrl_c_leaves_the_run_alone_and_says_so(clinvk: Command, running: Server, action: str) -> None:
    id = submitted(running, do(["hang"]))
    assert eventually(lambda: run_of(running, id)["status"] == "running")
    with clinvk.terminal("runs", action, id) as terminal:
        shown = b""
        while b"waiting for the agent" not in shown:
            shown += os.read(terminal.descriptor, 65_536)
        terminal.process.send_signal(signal.SIGINT)
        rest = terminal.read_to_end()
    assert terminal.process.wait(END_S) == 130
    assert "the run goes on" in rest
    assert f"clinvk runs cancel {id}" in rest
    assert "Traceback" not in rest
    assert run_of(running, id)["status"] == "running"
    assert clinvk("runs", "cancel", id).stderr == f"{id} is being stopped\n"
    assert eventually(lambda: run_of(running, id)["status"] == "cancelled")
    assert clinvk("runs", "cancel", id).stderr == f"{id} is cancelled\n"


def test_a_wait_that_lasts_too_long_is_exit_code_124_and_leaves_the_run_alone(clinvk: Command, running: Server) -> None:
    id = submitted(running, do(["hang"]))
    done = clinvk("runs", "wait", id, "--timeout", "0.2")
    assert told(done, 124) == ""
    assert "after 0.2 s; it goes on" in done.stderr
    told(clinvk("runs", "cancel", id))
    done = clinvk("runs", "wait", id)
    assert told(done, 1) == ""
    assert "cancelled" in done.stderr


def test_delete_wants_a_run_that_has_ended(clinvk: Command, running: Server) -> None:
    id = submitted(running, do(["hang"]))
    done = clinvk("runs", "delete", id)
    assert done.returncode == 3
    assert "cancel it first" in done.stderr
    told(clinvk("runs", "cancel", id))
    assert clinvk("runs", "wait", id).returncode == 1
    assert clinvk("runs", "delete", id).stderr == f"deleted {id}\n"
    assert clinvk("runs", "show", id).returncode == 2


def test_where_the_events_have_expired_the_result_is_shown(clinvk: Command, running: Server) -> None:
    id = submitted(running, "kept")
    told(clinvk("runs", "wait", id))
    with closing(sqlite3.connect(running.clinvk_home / "sessions.db", timeout=END_S)) as store, store:
        store.execute("UPDATE runs SET are_events_expired = 1 WHERE id = ?", (id,))
    done = clinvk("runs", "follow", id)
    assert told(done) == "You said: kept\n"
    assert "its events are kept no longer" in done.stderr


@contextmanager
def restarting(server: ServerFactory, config: Mapping[str, Any]) -> Iterator[tuple[Server, Callable[[], Server]]]:
    """A server, and what starts another one at its address and on its store."""
    one = server(config, {"CLINVK_API_KEY": KEY})
    port = one.url.rpartition(":")[2]
    yield one, lambda: server(config, {"CLINVK_API_KEY": KEY, "CLINVK_HOME": str(one.clinvk_home)}, ("--port", port))


def test_follow_survives_kill_9_of_the_server_and_shows_each_text_once(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    with restarting(server, config_of(fake_cli, max_concurrent_runs=1)) as (one, start_again):
        clinvk = command_for(one.url, tmp_path)
        lost = submitted(one, do(["tokens", 50], ["say", "."], ["hang"]))
        waiting = submitted(one, do(["tokens", 50], ["say", "."]))
        following = clinvk.start("runs", "follow", lost)
        queued = clinvk.start("runs", "follow", waiting)
        shown = shown_by(following, ".")
        one.kill_everything()
        start_again()
        rest, errors = following.communicate(timeout=END_S)
        assert shown + rest.decode() == " ".join(f"tok{n}" for n in range(50)) + ".\n"
        assert following.returncode == 1
        assert b"the process that executed this run has ended" in errors
        assert errors.count(b"trying to reconnect") == errors.count(b"connected again") == 1
        output, errors = queued.communicate(timeout=END_S)
        assert output.decode() == " ".join(f"tok{n}" for n in range(50)) + ".\n"
        assert queued.returncode == 0, errors


def test_follow_goes_on_with_the_second_attempt_of_a_lost_run(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    with restarting(server, config_of(fake_cli)) as (one, start_again):
        clinvk = command_for(one.url, tmp_path)
        id = submitted(one, do(["say", "attempt"], ["wait_for", str(lost)], ["say", " done"]), on_worker_lost="retry")
        following = clinvk.start("runs", "follow", id)
        waiting = clinvk.start("runs", "wait", id)
        shown = shown_by(following, "attempt")
        assert eventually(lambda: one.log().count(f'"path": "/api/v1/runs/{id}"') == 2), "both have asked for the run"
        one.kill_everything()
        lost.touch()
        start_again()
        rest, errors = following.communicate(timeout=END_S)
        assert shown + rest.decode() == "attempt\nattempt done\n"
        assert following.returncode == 0
        assert b"was started again (attempt 2)" in errors
        assert waiting.communicate(timeout=END_S)[0] == b"attempt done\n"
        assert waiting.returncode == 0


def test_a_server_that_stays_away_is_exit_code_3_and_how_to_go_on(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    one = server(config_of(fake_cli), {"CLINVK_API_KEY": KEY})
    clinvk = command_for(one.url, tmp_path)
    id = submitted(one, do(["say", "begun"], ["hang"]))
    process = clinvk.start("runs", "follow", id, "--reconnect-secs", "0.5")
    shown_by(process, "begun")
    one.kill_everything()
    _, errors = process.communicate(timeout=END_S)
    assert process.returncode == 3
    assert re.search(rf"the run may go on: clinvk runs follow {id} --after [23]\n", errors.decode())


class CuttingProxy:
    """Passes on what it is sent; cuts the n-th connection after the n-th of ``cuts`` bytes of its answer, and later ones not."""

    def __init__(self, url: str, cuts: list[int]) -> None:
        self._port = int(url.rpartition(":")[2])
        self._cuts = iter(cuts)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, _ = self._listening.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._serve, args=(ours,)))
                self._threads[-1].start()

    def _serve(self, ours: socket.socket) -> None:
        with ours, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                request += ours.recv(65_536)
            left = next(self._cuts, 1 << 40) if b"/events" in request else 1 << 40
            with socket.create_connection(("127.0.0.1", self._port)) as theirs:
                theirs.sendall(request.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1))
                while left and (data := theirs.recv(min(left, 65_536))):
                    ours.sendall(data)
                    left -= len(data)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()


def test_a_connection_that_breaks_anywhere_shows_no_event_twice_and_leaves_none_out(clinvk: Command, running: Server) -> None:
    id = submitted(running, do(["tokens", 40]))
    whole = told(clinvk("runs", "follow", id, "--json"))
    cuts = [0, 100, *range(700, 2_000, 97)]
    with closing(CuttingProxy(running.url, cuts)) as proxy:
        assert told(clinvk("runs", "follow", id, "--json", "--server", proxy.url)) == whole
        assert proxy.connections > len(cuts)
