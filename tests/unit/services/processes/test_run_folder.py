from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.processes.run_folder import FOLDER, RunFolder, Spares

ONE, OTHER = "clinvk-0123456789abcdef", "clinvk-fedcba9876543210"


@pytest.fixture
def spares() -> Spares:
    return Spares()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leave(folder: Path, spares: Spares) -> tuple[Path, int]:
    """A folder that a run has left: where it is now, and its inode."""
    RunFolder(str(folder / ONE), spares).remove()
    (home,) = folder.iterdir()
    (kept,) = home.iterdir()
    return kept, kept.stat().st_ino


def test_an_empty_folder_is_kept_for_the_next_run(tmp_path: Path, spares: Spares) -> None:
    kept, inode = leave(tmp_path, spares)
    folder = RunFolder(str(tmp_path / OTHER), spares)
    assert not kept.exists()
    assert (tmp_path / OTHER).stat().st_ino == inode
    folder.remove()
    folder.remove()
    assert names(tmp_path) == [kept.parent.name]
    spares.close()
    assert names(tmp_path) == []


@pytest.mark.parametrize("is_kept", [False, True], ids=["in use", "kept"])
def test_cleanup_finds_it_locked(tmp_path: Path, spares: Spares, is_kept: bool) -> None:
    leave(tmp_path, spares)
    folder = RunFolder(str(tmp_path / OTHER), spares)
    if is_kept:
        folder.remove()
    for name in names(tmp_path):
        assert FOLDER.fullmatch(name)
        other = os.open(tmp_path / name, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
    folder.remove()
    spares.close()


def with_file(path: Path) -> None:
    (path / "left").write_text("x")


def with_other_mode(path: Path) -> None:
    path.chmod(0o755)


def as_other(path: Path) -> None:
    path.rmdir()
    path.mkdir(0o700)


def as_link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("change", [with_file, with_other_mode, as_other, Path.rmdir])
def test_one_that_a_run_has_changed_is_removed(tmp_path: Path, spares: Spares, change: Callable[[Path], None]) -> None:
    folder = RunFolder(str(tmp_path / ONE), spares)
    change(tmp_path / ONE)
    folder.remove()
    spares.close()
    assert names(tmp_path) == []


def test_a_link_in_its_place_is_not_kept(tmp_path: Path, spares: Spares) -> None:
    folder = RunFolder(str(tmp_path / ONE), spares)
    as_link(tmp_path / ONE)
    folder.remove()
    spares.close()
    assert names(tmp_path) == [ONE, "elsewhere"]
    assert (tmp_path / ONE).is_symlink()


@pytest.mark.parametrize("change", [with_file, with_other_mode, as_other, Path.rmdir, as_link])
def test_one_that_somebody_has_changed_meanwhile_is_not_used(tmp_path: Path, spares: Spares, change: Callable[[Path], None]) -> None:
    kept, _ = leave(tmp_path, spares)
    change(kept)
    folder = RunFolder(str(tmp_path / OTHER), spares)
    path = tmp_path / OTHER
    assert (path.is_symlink(), path.stat().st_mode & 0o777, names(path)) == (False, 0o700, [])
    folder.remove()


def test_no_more_are_kept_than_are_used_at_a_time(tmp_path: Path, spares: Spares) -> None:
    folders = [RunFolder(str(tmp_path / f"clinvk-{number:016x}"), spares) for number in range(Spares.MOST + 3)]
    for folder in folders:
        folder.remove()
    (home,) = tmp_path.iterdir()
    assert len(names(home)) == Spares.MOST


def test_a_folder_that_comes_back_after_the_end_is_removed(tmp_path: Path, spares: Spares) -> None:
    folder = RunFolder(str(tmp_path / ONE), spares)
    spares.close()
    folder.remove()
    assert names(tmp_path) == []
