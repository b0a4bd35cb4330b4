"""The spawner, its supervisors and their children, as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import gevent
import pytest

from services.decoding.decoder import Exit
from services.errors import BackendUnavailable
from services.processes.child import Child
from services.processes.spawner import Spawner
from tests.parts.processes import alive, descendants, eventually, open_fds

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


def start(spawner: Spawner, *argv: str, stdin: bytes | None = b"", cwd: str = "/") -> Child:
    return spawner.start(argv, env=ENV, cwd=cwd, stdin=stdin)


def read_all(child: Child) -> bytes:
    parts: list[bytes] = []
    while chunk := child.read(10):
        parts.append(chunk)
    return b"".join(parts)


def end(child: Child) -> Exit | None:
    exit = child.wait_exit(10)
    child.close()
    return exit


def pids_in(text: bytes) -> Sequence[int]:
    return [int(word) for word in text.split()]


def test_a_megabyte_of_stdin_comes_back_whole(spawner: Spawner) -> None:
    prompt = os.urandom(1 << 20)
    child = start(spawner, "cat", stdin=prompt)
    assert read_all(child) == prompt
    assert end(child) == Exit(0, "")


def test_exit_code_and_the_tail_of_stderr_are_told(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", "yes error | head -c 1000000 >&2; echo last >&2; exit 3")
    exit = end(child)
    assert exit is not None
    assert exit.code == 3
    assert exit.stderr_tail.endswith("last\n")
    assert len(exit.stderr_tail) == 16 * 1024


def test_a_signal_is_told_as_the_shell_tells_it(spawner: Spawner) -> None:
    assert end(start(spawner, "sh", "-c", "kill -KILL $$")) == Exit(137, "")


def test_what_cannot_be_started_says_why(spawner: Spawner) -> None:
    with pytest.raises(BackendUnavailable, match="/nonexistent/cli is not installed: No such file"):
        start(spawner, "/nonexistent/cli")
    with pytest.raises(BackendUnavailable, match="/nonexistent cannot be used as workdir"):
        start(spawner, "true", cwd="/nonexistent")
    with pytest.raises(BackendUnavailable, match="/etc/passwd is not executable"):
        start(spawner, "/etc/passwd")


def test_silence_is_none_and_the_end_is_empty(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", "read line; echo got $line", stdin=None)
    assert child.read(0.01) is None
    child.send(b"hello\n")
    assert child.read(10) == b"got hello\n"
    assert child.read(10) == b""
    assert end(child) == Exit(0, "")


def test_a_program_that_writes_before_it_reads_gets_an_input_of_any_size(spawner: Spawner) -> None:
    script = "import sys; print('x' * 4_000_000, flush=True); print(len(sys.stdin.read()))"
    child = start(spawner, sys.executable, "-c", script, stdin=None)
    with gevent.Timeout(30):
        child.send(b"y" * 10_000_000)
        child.end_input()
        output = read_all(child)
    assert output.split() == [b"x" * 4_000_000, b"10000000"]
    assert end(child) == Exit(0, "")


def test_what_a_program_does_not_want_to_read_is_dropped(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", "exec 0<&-; echo closed; sleep 0.2; exit 4", stdin=None)
    with gevent.Timeout(30):
        assert child.read(10) == b"closed\n"
        child.send(b"y" * 10_000_000)
        child.send(b"more")
        assert child.read(10) == b""
    assert end(child) == Exit(4, "")


def test_a_reader_is_woken(spawner: Spawner) -> None:
    child = start(spawner, "sleep", "60")
    child.wake()
    assert child.read(60) is None
    child.close()


def test_stop_ends_descendants_in_sessions_of_their_own_that_ignore_sigterm(spawner: Spawner) -> None:
    script = "setsid sh -c 'trap \"\" TERM; echo $$; sleep 600' & setsid setsid sleep 600 & echo $!; wait"
    child = start(spawner, "sh", "-c", script)
    told = b""
    while told.count(b"\n") < 2:
        told += child.read(10) or b""
    pids = [child.pid, *pids_in(told), *descendants(child.pid)]
    child.stop(signal.SIGTERM, 0.2)
    assert end(child) == Exit(143, "")
    assert not [pid for pid in pids if alive(pid)]


def test_a_cli_that_ignores_sigterm_is_killed_after_its_grace(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", 'trap "" TERM INT; echo ready; while :; do sleep 0.1; done')
    assert child.read(10) == b"ready\n"
    child.stop(signal.SIGTERM, 0.1)
    assert end(child) == Exit(137, "")


def test_what_a_cli_leaves_behind_at_its_exit_is_ended(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", "setsid sleep 600 & echo $!")
    (pid,) = pids_in(read_all(child))
    assert end(child) == Exit(0, "")
    assert not alive(pid)


def test_output_that_a_grandchild_holds_open_ends_with_the_cli(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", "setsid sh -c 'trap \"\" TERM; sleep 600' & echo done")
    assert read_all(child) == b"done\n"
    child.close()


def test_nothing_outlives_a_worker_that_is_killed() -> None:
    worker = """
import sys
from services.processes.spawner import Spawner
child = Spawner().start(["sh", "-c", "setsid sleep 600 & echo $!; echo $$; wait"], env={"PATH": sys.argv[1]}, cwd="/", stdin=b"")
told = b""
while told.count(b"\\n") < 2:
    told += child.read(10)
sys.stdout.buffer.write(told)
sys.stdout.flush()
child.read(600)
"""
    with subprocess.Popen([sys.executable, "-c", worker, ENV["PATH"]], stdout=subprocess.PIPE, cwd=os.getcwd()) as process:
        assert process.stdout
        pids = [int(process.stdout.readline()), int(process.stdout.readline())]
        supervisors = descendants(process.pid)
        assert all(map(alive, pids))
        process.kill()
    assert eventually(lambda: not [pid for pid in (*pids, *supervisors) if alive(pid)])


def test_a_run_whose_supervisor_is_killed_is_ended_and_told(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", "trap '' TERM; setsid sleep 600 & echo $!; sleep 600")
    (pid,) = pids_in(child.read(10) or b"")
    supervisor = next(parent for parent in descendants(os.getpid()) if child.pid in descendants(parent) and pid in descendants(parent))
    while any(child.pid in descendants(below) for below in descendants(supervisor)):
        supervisor = next(below for below in descendants(supervisor) if child.pid in descendants(below))
    os.kill(supervisor, signal.SIGKILL)
    assert child.read(10) == b""
    child.close()
    assert eventually(lambda: not alive(pid) and not alive(child.pid))


def test_no_descriptor_and_no_process_is_left_after_a_hundred_runs(spawner: Spawner) -> None:
    end(start(spawner, "true"))
    before = open_fds(os.getpid())
    for _ in range(100):
        end(start(spawner, "echo", "x"))
    assert open_fds(os.getpid()) == before


def test_the_cli_gets_its_own_session_no_stray_descriptor_and_a_private_umask(spawner: Spawner) -> None:
    child = start(spawner, "sh", "-c", "ls /proc/self/fd | wc -l; umask; ps -o sid= -p $$; echo $$")
    fds, umask, session, pid = read_all(child).split()
    child.close()
    assert (fds, umask, session) == (b"4", b"0077", pid)  # 0, 1, 2 and the folder that ls reads
