"""Who is below whom, as a /proc of files says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.processes import procfs

PARENTS = {2: 1, 3: 2, 4: 3, 5: 2, 6: 1, 7: 3}
ZOMBIE = 5


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """1 ─ 2 ─ 3 ─ 4 and 7, the latter by another thread of 3; 5, a zombie, below 2; 6 below 1."""
    (tmp_path / "self").mkdir()
    for pid in (1, *PARENTS):
        for thread in (pid, pid + 100):
            (tmp_path / f"{pid}/task/{thread}").mkdir(parents=True)
            own = [child for child, parent in PARENTS.items() if parent == pid and (child == 7) == (thread != pid)]
            (tmp_path / f"{pid}/task/{thread}/children").write_text("".join(f"{child} " for child in own))
        state = "Z" if pid == ZOMBIE else "S"
        (tmp_path / f"{pid}/stat").write_text(f"{pid} (a ) name) {state} {PARENTS.get(pid, 0)} 0 0")
    monkeypatch.setattr(procfs, "PROC", str(tmp_path))
    return tmp_path


def without_lists(proc: Path) -> None:
    for path in proc.glob("*/task/*/children"):
        path.unlink()


@pytest.mark.parametrize("change", [lambda _: None, without_lists], ids=["lists of children", "every process"])
def test_the_tree_is_the_same_whichever_way_it_is_read(proc: Path, change: Callable[[Path], None]) -> None:
    change(proc)
    assert sorted(procfs.descendants(1)) == [2, 3, 4, 6, 7]
    assert sorted(procfs.descendants(2)) == [3, 4, 7]
    assert sorted(procfs.descendants(1, without=[2])) == [6]
    assert procfs.children(2) == [3]
    assert procfs.descendants(4) == []
    assert procfs.descendants(99) == []


def test_no_other_process_is_looked_at(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "_processes", lambda: pytest.fail("all processes were listed"))
    assert procfs.descendants(3) == [4, 7]


def reading(proc: Path, monkeypatch: pytest.MonkeyPatch, lists: Callable[[int], str]) -> None:
    """Have the list of process 2 say ``lists(n)`` at its nth reading."""
    read, count = procfs._read, iter(range(1, 100))

    def changed(path: str) -> bytes:
        return lists(next(count)).encode() if path == f"{proc}/2/task/2/children" else read(path)

    monkeypatch.setattr(procfs, "_read", changed)


def test_a_child_that_a_list_lacked_for_a_moment_is_found(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(proc, monkeypatch, lambda number: "5 " if number == 1 else "3 ")
    assert sorted(procfs.descendants(2)) == [3, 4, 7]


def test_lists_that_keep_changing_are_not_relied_on(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reading(proc, monkeypatch, lambda number: "5 " * number)
    assert sorted(procfs.descendants(2)) == [3, 4, 7]


def test_this_process_and_its_parent_are_seen() -> None:
    assert procfs.parent_of(os.getpid()) == os.getppid()
    assert os.getpid() in procfs.children(os.getppid())
    assert os.getpid() in procfs.descendants(os.getppid())
