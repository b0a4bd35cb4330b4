"""A spawner or a supervisor that is killed or stopped: what runs ends truthfully and once, what comes next starts, nothing is left."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import gevent
import pytest

from services.decoding.decoder import Exit
from services.errors import BackendUnavailable
from services.processes import child as child_module
from services.processes import orphans as orphans_module
from services.processes import spawner as spawner_module
from services.processes import spawner_process, spawner_program
from services.processes.child import Child
from services.processes.orphans import Orphans
from services.processes.reserve import AHEAD, PLACES
from services.processes.spawner import Spawner
from tests.parts.processes import PATIENCE_S, alive, children, command_line, descendants, eventually, state

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    spawner.warm_up()
    yield spawner
    spawner.close()


def start(spawner: Spawner, script: str) -> Child:
    return spawner.start(["sh", "-c", script], env=ENV, cwd="/", stdin=b"")


def output(child: Child) -> bytes:
    parts: list[bytes] = []
    while chunk := child.read(20):
        parts.append(chunk)
    return b"".join(parts)


def says(spawner: Spawner, words: str) -> bool:
    """Whether a run says these words."""
    child = start(spawner, f"echo {words}")
    try:
        return output(child).decode() == f"{words}\n"
    finally:
        child.close()


def spawner_pid(spawner: Spawner) -> int:
    assert spawner.pid
    assert eventually(lambda: "spawner_program.py" in command_line(spawner.pid or 0))
    return spawner.pid


def supervisor_of(child: Child) -> int:
    now = state(child.pid)
    assert now
    assert now[1] == child.supervisor, "the parent of the CLI"
    assert "spawner_program.py" in command_line(child.supervisor)
    return child.supervisor


def wait_for(check: object, within_s: float = 10.0) -> bool:
    """As `eventually`, with the event loop going on."""
    with gevent.Timeout(within_s, False):
        while not check():  # type: ignore[operator]
            gevent.sleep(0.01)
    return bool(check())  # type: ignore[operator]


def test_runs_go_on_when_the_spawner_is_killed_and_it_is_replaced(
    spawner: Spawner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go = tmp_path / "go"
    runs = [start(spawner, f"echo {number}; until [ -e {go} ]; do sleep 0.02; done; echo after; exit {number}") for number in range(8)]
    assert [run.read(20) for run in runs] == [f"{number}\n".encode() for number in range(8)]
    killed = spawner_pid(spawner)
    with caplog.at_level(logging.WARNING):
        os.kill(killed, signal.SIGKILL)
        assert wait_for(lambda: spawner.is_being_replaced)
        assert wait_for(lambda: spawner.replacements == 1 and not spawner.is_being_replaced)
    assert f"(pid {killed}) was ended by SIGKILL" in caplog.text
    assert says(spawner, "next")
    go.touch()
    for number, run in enumerate(runs):
        assert output(run) == b"after\n"
        assert run.wait_exit(20) == Exit(number, "")
        run.close()
    assert spawner_pid(spawner) != killed


def test_so_many_supervisors_stay_after_a_burst_also_where_those_of_an_earlier_one_were_killed(spawner: Spawner) -> None:
    pid = spawner_pid(spawner)
    for _ in range(2):
        runs = [spawner.start(["cat"], env=ENV, cwd="/", stdin=None) for _ in range(PLACES + 4)]
        for run in runs:
            run.close()
        assert wait_for(lambda: PLACES <= len(descendants(pid)) <= PLACES + AHEAD)
        for supervisor in descendants(pid):
            os.kill(supervisor, signal.SIGKILL)


def test_a_job_that_no_supervisor_has_taken_is_started_once_by_the_replacement(spawner: Spawner, tmp_path: Path) -> None:
    log, killed = tmp_path / "log", spawner_pid(spawner)
    assert wait_for(lambda: len(descendants(killed)) == 2), "two idle supervisors"
    stopped = [killed, *descendants(killed)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    runs = [gevent.spawn(start, spawner, f"echo {number} >> {log}; echo {number}") for number in range(3)]
    gevent.sleep(0.2)
    assert not any(run.ready() for run in runs)
    os.kill(killed, signal.SIGKILL)
    answers = [run.get(timeout=20) for run in runs]
    assert sorted(map(output, answers)) == [b"0\n", b"1\n", b"2\n"]
    for pid in stopped[1:]:
        os.kill(pid, signal.SIGCONT)
    for answer in answers:
        answer.close()
    assert sorted(log.read_text().split()) == ["0", "1", "2"]
    assert wait_for(lambda: not any(map(alive, stopped)))


def test_a_spawner_that_is_stopped_is_replaced(spawner: Spawner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(spawner_module, "STALL_S", 0.3)
    stopped = spawner_pid(spawner)
    assert wait_for(lambda: len(descendants(stopped)) == 2)
    supervisors = descendants(stopped)
    for pid in (stopped, *supervisors):
        os.kill(pid, signal.SIGSTOP)
    child = start(spawner, "echo hi")
    assert output(child) == b"hi\n"
    child.close()
    assert "took no job within 0.3 s and was killed" in caplog.text
    assert not alive(stopped)
    for pid in supervisors:  # this process is no sub-reaper, so it has to let them go itself
        assert "spawner_program.py" in command_line(pid)
        os.kill(pid, signal.SIGCONT)
    assert wait_for(lambda: not any(map(alive, supervisors)))


def test_a_spawner_that_does_not_answer_is_replaced_before_anybody_needs_it(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spawner_process, "PING_EVERY_S", 0.1)
    os.kill(spawner_pid(spawner), signal.SIGKILL)
    assert wait_for(lambda: spawner.replacements == 1 and not spawner.is_being_replaced)
    gevent.sleep(0.5)
    stopped = spawner_pid(spawner)
    os.kill(stopped, signal.SIGSTOP)
    assert wait_for(lambda: spawner.replacements == 2 and not spawner.is_being_replaced)
    assert f"(pid {stopped}) did not respond 3 times and was killed" in caplog.text
    assert not alive(stopped)


def test_a_supervisor_that_was_stopped_is_killed_with_its_tree(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child_module, "SUPERVISOR_ANSWER_S", 0.3)
    child = start(spawner, "trap '' TERM; env -i setsid sleep 600 & echo $!; sleep 600")
    tree = [int(child.read(20) or 0), child.pid, supervisor_of(child)]
    os.kill(child.supervisor, signal.SIGSTOP)
    child.stop(signal.SIGTERM, 60.0)
    assert child.wait_exit(20) is None
    child.close()
    assert not [pid for pid in tree if alive(pid)]
    assert f"the supervisor (pid {child.supervisor}) of sh did not respond" in caplog.text


def test_a_supervisor_that_was_stopped_after_its_run_s_end_is_killed_when_the_run_is_closed(
    spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "SUPERVISOR_ANSWER_S", 0.3)
    child = spawner.start(["sh", "-c", "read line; kill -STOP $PPID; echo done"], env=ENV, cwd="/", stdin=None)
    child.send(b"\n")
    assert output(child) == b"done\n"
    supervisor = child.supervisor
    assert child.wait_exit(0.2) is None
    child.close()
    assert not alive(supervisor)


def test_a_run_whose_supervisor_is_killed_at_once_fails_at_once(spawner: Spawner, tmp_path: Path) -> None:
    """The death may be seen before the start was told, or after it."""
    log = tmp_path / "log"
    for _ in range(5):
        child = None
        with suppress(BackendUnavailable), gevent.Timeout(5):
            child = start(spawner, f"echo $$ >> {log}; kill -KILL $PPID; sleep 600")
            assert output(child) == b""
            assert child.wait_exit(5) is None
        if child:
            child.close()
    pids = [int(line) for line in log.read_text().split()]
    assert len(pids) == 5
    assert wait_for(lambda: not any(map(alive, pids)))


def test_a_run_that_was_given_up_before_a_supervisor_took_it_is_not_started(spawner: Spawner, tmp_path: Path) -> None:
    assert wait_for(lambda: len(descendants(spawner_pid(spawner))) == 2)
    stopped = [spawner_pid(spawner), *descendants(spawner_pid(spawner))]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(BackendUnavailable, match="no supervisor took the job in time"):
        spawner.start(["touch", str(tmp_path / "started")], env=ENV, cwd="/", stdin=b"", timeout_s=0.2)
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGCONT)
    for _ in range(3):
        assert says(spawner, "next")
    assert not (tmp_path / "started").exists()


@contextmanager
def stopped(spawner: Spawner) -> Iterator[None]:
    """The spawner takes no job meanwhile."""
    assert wait_for(lambda: len(descendants(spawner_pid(spawner))) == 2)
    pids = [spawner_pid(spawner), *descendants(spawner_pid(spawner))]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def test_no_start_fails_because_more_are_waiting_than_the_socket_holds(spawner: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux's default socket buffer holds about 330 jobs."""
    monkeypatch.setattr(spawner_module, "STALL_S", 60.0)
    with stopped(spawner):
        starts = [gevent.spawn(start, spawner, "echo") for _ in range(400)]
        gevent.idle()
        failures = {repr(one.exception) for one in starts if one.ready()}
        gevent.killall(starts)
    assert not failures
    assert says(spawner, "next")


def test_the_time_limit_of_a_start_begins_when_its_turn_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawner_module, "STARTS_AT_A_TIME", 1)
    monkeypatch.setattr(spawner_module, "STALL_S", 60.0)
    spawner = Spawner()
    spawner.warm_up()
    with stopped(spawner):
        first = gevent.spawn(start, spawner, "echo")
        second = gevent.spawn(spawner.start, ["true"], env=ENV, cwd="/", stdin=b"", timeout_s=0.05)
        gevent.wait([second], timeout=0.5)
        has_failed = second.ready()
        second.kill()
    first.get(timeout=20).close()
    spawner.close()
    assert not has_failed


def test_close_ends_a_spawner_that_was_stopped() -> None:
    spawner = Spawner()
    child = start(spawner, "sleep 600")
    pids = [spawner_pid(spawner), *descendants(spawner_pid(spawner))]
    for pid in pids:
        if "spawner_program.py" in command_line(pid):
            os.kill(pid, signal.SIGSTOP)
    spawner.close()
    assert not [pid for pid in pids if alive(pid)]
    child.close()


def test_a_supervisor_is_left_behind_only_some_time_after_the_end_of_its_spawner_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(orphans_module, "monotonic", lambda: now)
    orphans = Orphans()
    orphans.spawner_started(7)
    now += 60
    assert not orphans.is_left_behind(7), "it may be dead already: an idle supervisor may have just taken a job"
    orphans.spawner_ended(7)
    assert not orphans.is_left_behind(7)
    now += orphans_module.LEAVE_S + 0.1
    assert orphans.is_left_behind(7)
    assert orphans.is_left_behind(8), "no spawner's session: an orphan of a run"


WORKER = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from services.processes.own_process import become_subreaper
from services.processes.spawner import Spawner
become_subreaper()
gevent.get_hub().loop.install_sigchld()
spawner = Spawner()
child = spawner.start(["sh", "-c", sys.argv[1]], env={"PATH": sys.argv[2]}, cwd="/", stdin=b"")
told = b""
while chunk := child.read(20):
    told += chunk
child.close()
print(told.decode(), spawner.start(["echo", "next"], env={"PATH": sys.argv[2]}, cwd="/", stdin=b"").read(20).decode(), flush=True)
sys.stdin.read()
spawner.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no sub-reaper")
def test_a_daemon_with_an_empty_environment_ends_when_its_cli_kills_supervisor_and_spawner() -> None:
    # Each process id is looked at before it gets a signal: that of an orphan's parent is somebody else's.
    kill = "for pid in $PPID $(ps -o ppid= -p $PPID); do grep -q spawner_program.py /proc/$pid/cmdline && kill -KILL $pid; done"
    script = f"env -i setsid sh -c 'trap \"\" TERM; sleep 600; :' & echo $!; env -i setsid setsid sleep 600 & echo $!; sleep 0.3; {kill}; sleep 600"
    command = [sys.executable, "-c", WORKER, script, ENV["PATH"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=os.getcwd()) as worker:
        assert worker.stdout
        daemons = [int(worker.stdout.readline()) for _ in range(2)]
        assert [line.split() for line in (worker.stdout.readline(), worker.stdout.readline()) if line.strip()] == [["next"]]
        assert eventually(lambda: not any(map(alive, daemons)))
        (spawner,) = [pid for pid in children(worker.pid) if "spawner_program.py" in command_line(pid)]
        assert alive(spawner)
        assert worker.stdin
        worker.stdin.close()
        assert worker.wait(20) == 0


def test_spawner_ends_quietly_when_its_worker_was_killed_before_it_read_an_answer() -> None:
    jobs, their_jobs = socket.socketpair()
    ping, their_ping = socket.socketpair()
    with jobs, their_jobs, their_ping:
        command = [sys.executable, "-I", "-S", spawner_program.__file__, str(their_jobs.fileno()), str(their_ping.fileno())]
        with subprocess.Popen(command, pass_fds=(their_jobs.fileno(), their_ping.fileno()), stderr=subprocess.PIPE) as process:
            with ping:  # the spawner has said that it lives, and nobody has read that: its next read fails instead of ending
                assert select.select([ping], [], [], PATIENCE_S)[0]
            their_jobs.close()
            jobs.close()
            _, told = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, told) == (0, b"")
