"""Processes that share a home folder reach each other, on one machine or several. Here each place stands for a machine or container."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.runs import peers
from services.runs.peers import Peers
from tests.parts.webhook_receiver import soon

Start = Callable[[str], Peers]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workers"


@pytest.fixture
def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """``start(place)`` starts a process there, which answers `where` with its place. All have the same pid."""
    started: list[Peers] = []

    def start(at: str) -> Peers:
        monkeypatch.setattr(peers, "place", lambda: at)
        one = Peers(str(folder), {"where": lambda: at, "note": lambda text: noted.append((at, text))})
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.close()


noted: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    noted.clear()


def leave_socket(path: Path) -> Path:
    """As a killed process does."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    return path


def test_processes_with_the_same_pid_in_two_places_reach_each_other(start: Start) -> None:
    one, other = start("here"), start("there")
    assert (one.ask("where"), other.ask("where")) == (["there"], ["here"])
    one.tell("note", text="hello")
    assert soon(lambda: noted == [("there", "hello")])


def test_a_socket_that_nobody_listens_on_is_removed_in_ones_own_place_only(start: Start, folder: Path) -> None:
    start("there").close()
    one = start("here")
    (own,) = folder.iterdir()
    dead = leave_socket(folder / own.name.replace(str(os.getpid()), "1"))
    elsewhere = leave_socket(folder / f"{'0' * 16}-1.sock")
    assert one.ask("where") == []
    assert (own.exists(), dead.exists(), elsewhere.exists()) == (True, False, True)


def test_without_its_folder_nothing_fails_and_a_renewal_makes_it_again(start: Start, folder: Path) -> None:
    one, other = start("here"), start("there")
    shutil.rmtree(folder)
    one.tell("note", text="lost")
    assert one.ask("where") == []
    for each in (one, other):
        each.renew()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (one.ask("where"), other.ask("where")) == (["there"], ["here"])
    one.tell("note", text="hello")
    assert soon(lambda: noted == [("there", "hello")])


def test_a_renewal_changes_nothing_while_all_is_there_and_nothing_after_the_end(start: Start, folder: Path) -> None:
    one = start("here")
    (before,) = folder.iterdir()
    made = before.stat().st_ino
    one.renew()
    assert before.stat().st_ino == made
    one.close()
    one.renew()
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_once(start: Start, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("in its place")
    one = start("here")
    one.renew()
    one.tell("note", text="lost")
    assert one.ask("where") == []
    assert caplog.text.count("other workers cannot reach this one") == 1
    folder.unlink()
    one.renew()
    assert [path.suffix for path in folder.iterdir()] == [".sock"]
