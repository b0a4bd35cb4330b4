"""Whether a process that was started earlier has read what one started now would read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.clis.claude import spec as claude
from services.clis.warmth import Warmth

WARMTH = claude.SPEC.warmth or Warmth()


@pytest.mark.parametrize("name", WARMTH.project_files)
@pytest.mark.parametrize("where", ["work", "work/a/b"])
def test_a_file_that_is_made_changed_or_deleted_is_another_state(tmp_path: Path, name: str, where: str) -> None:
    cwd = tmp_path / "work/a/b"
    cwd.mkdir(parents=True)
    path = tmp_path / where / name
    path.parent.mkdir(parents=True, exist_ok=True)

    def state() -> object:
        return WARMTH.state(str(tmp_path / "home"), str(cwd))

    before = state()
    assert state() == before
    path.write_text("x")
    made = state()
    path.write_text("longer")
    changed = state()
    path.unlink()
    assert len({before, made, changed}) == 3
    assert state() == before


def test_nothing_is_looked_for_in_a_folder_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    access = os.access

    def counting(path: str, mode: int) -> bool:
        looked.append(path)
        return access(path, mode)

    monkeypatch.setattr(os, "access", counting)
    (tmp_path / ".git").mkdir()
    warmth = Warmth(project_files=(".git", ".git/HEAD", ".claude/settings.json", ".claude/settings.local.json"))
    warmth.state("", str(tmp_path))
    below = [os.path.relpath(path, tmp_path) for path in looked if path.startswith(f"{tmp_path}/")]
    assert below == [".git", ".git/HEAD", ".claude"]
