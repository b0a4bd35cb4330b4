"""What a server that was killed with all its supervisors leaves behind is found by the next one; what lives is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import get_native_id

import pytest

from services.processes.leftovers import end_leftover_processes, end_marked, remove_leftover_folders
from services.processes.marks import MARK, RunFolder, has_owner, new_mark, new_path
from services.processes.spawner import Spawner
from tests.parts.processes import alive, descendants, eventually

RUN = """
import os, sys
from services.processes.marks import RunFolder
from services.processes.spawner import Spawner
RunFolder(sys.argv[1])
script = "trap '' TERM; setsid sh -c \\"trap '' TERM; sleep 600\\" & echo $! $$; sleep 600"
child = Spawner().start(["sh", "-c", script], env={"PATH": os.environ["PATH"]}, cwd="/", stdin=b"")
print(child.pid, child.read(10).decode().strip(), flush=True)
child.read(600)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Path(new_path())


def start_run(folder: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """A worker with one run, and the ids of the run's processes."""
    worker = subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stdout=subprocess.PIPE, text=True, cwd=os.getcwd())
    assert worker.stdout
    return worker, [int(word) for word in worker.stdout.readline().split()]


def kill_all_that_would_clean_up(worker: subprocess.Popen[str], run: list[int]) -> None:
    """Worker, spawner and supervisors; stopped first, so that none of them sees another one's end."""
    supervisors = [pid for pid in descendants(worker.pid) if pid not in [*run, *descendants(run[0])]]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (worker.pid, *supervisors):
            os.kill(pid, number)
    worker.communicate()


def test_what_a_killed_server_left_is_ended_at_the_next_start(folder: Path) -> None:
    worker, run = start_run(folder)
    end_leftover_processes()
    remove_leftover_folders()
    assert all(map(alive, run)), "a server that lives keeps its runs"
    assert folder.exists()
    kill_all_that_would_clean_up(worker, run)
    assert folder.exists(), "nobody was left to remove it"
    end_leftover_processes()
    remove_leftover_folders()
    assert not [pid for pid in run if alive(pid)]
    assert not folder.exists()


def test_a_run_whose_supervisor_and_spawner_are_killed_is_ended_by_its_server() -> None:
    spawner = Spawner()
    child = spawner.start(["sh", "-c", "setsid sleep 600 & echo $!; sleep 600"], env={"PATH": os.environ["PATH"]}, cwd="/", stdin=b"")
    run = [child.pid, int(child.read(10) or b"0")]
    assert spawner.pid
    below = [pid for pid in descendants(spawner.pid) if pid not in [*run, *descendants(child.pid)]]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (spawner.pid, *below):
            os.kill(pid, number)
    assert child.read(10) == b""
    child.close()
    assert not [pid for pid in run if alive(pid)]
    spawner.close()


def test_folders_that_are_in_use_or_not_ours_stay(folder: Path) -> None:
    used = RunFolder(str(folder))
    (folder / "file").write_text("x")
    others = [folder.parent / name for name in ("clinvk-notes", "clinvk-pg-0123456789abcdef", "other", "clinvk-0123456789abcde")]
    for other in others:
        other.mkdir()
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    link = folder.parent / "clinvk-00000000000000aa"
    link.symlink_to(elsewhere)
    assert remove_leftover_folders() == 0
    assert all(path.exists() for path in (folder / "file", link, elsewhere, *others))
    used.remove()
    used.remove()
    assert not folder.exists()


def test_a_mark_tells_whether_its_owner_lives() -> None:
    mark = new_mark()
    namespace, pid, started, run = mark.split(".")
    assert has_owner(mark)
    assert new_mark() != mark
    assert not has_owner(f"{namespace}.{pid}.{int(started) + 1}.{run}"), "the id was given to another process"
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert not has_owner(f"{namespace}.{gone.pid}.{started}.{run}")


@pytest.mark.parametrize("mark", ["", "x", "1.2.3.4", "..", "a.b.c.d", "1.-1.2.3"])
def test_a_mark_that_cannot_be_read_or_is_another_containers_protects_its_process(mark: str) -> None:
    with subprocess.Popen(["sleep", "600"], env={MARK: mark, "PATH": os.environ["PATH"]}) as process:
        assert eventually(lambda: alive(process.pid))
        end_leftover_processes()
        assert alive(process.pid)
        process.kill()


def test_processes_are_looked_through_outside_the_event_loop() -> None:
    threads: set[int] = set()

    class Mark(str):
        def __eq__(self, other: object) -> bool:
            threads.add(get_native_id())
            return str(self) == other

        __hash__ = str.__hash__

    mark = Mark(new_mark())
    with subprocess.Popen(["sleep", "600"], env={"PATH": os.environ["PATH"], MARK: str(mark)}) as process:
        assert end_marked(mark) == 1
        assert process.wait() == -signal.SIGTERM
    assert threads
    assert get_native_id() not in threads
