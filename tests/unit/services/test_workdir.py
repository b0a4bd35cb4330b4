from __future__ import annotations

from pathlib import Path

import pytest

from services.errors import WorkdirNotAllowed
from services.workdir import WorkdirRules


def test_a_folder_within_an_allowed_prefix_is_its_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert WorkdirRules(allowed=[str(tmp_path)]).check(str(tmp_path / "link")) == str(tmp_path / "real")


@pytest.mark.parametrize(
    ("workdir", "issue"),
    [
        ("relative/path", "must be an absolute path"),
        ("a\0b", "contains a NUL character"),
        ("/etc", "is in a blocked folder"),
        ("/etc/ssl", "is in a blocked folder"),
        ("/usr/../etc", "is in a blocked folder"),
        ("{tmp}/missing", "does not exist"),
        ("{tmp}/file", "is not a directory"),
        ("{tmp}/to-etc", "is in a blocked folder"),
    ],
)
def test_what_is_refused_says_why(tmp_path: Path, workdir: str, issue: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "to-etc").symlink_to("/etc")
    with pytest.raises(WorkdirNotAllowed, match=issue):
        WorkdirRules(blocked=["/etc"]).check(workdir.format(tmp=tmp_path))


def test_prefixes_are_compared_by_whole_components(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "workshop").mkdir()
    rules = WorkdirRules(allowed=[str(tmp_path / "work")])
    with pytest.raises(WorkdirNotAllowed, match="is outside"):
        rules.check(str(tmp_path / "workshop"))


def test_a_folder_outside_is_refused_alike_whether_it_exists_or_not(tmp_path: Path) -> None:
    rules = WorkdirRules(allowed=[str(tmp_path)])
    for outside in ("/home", "/home/nobody-has-this-name"):
        with pytest.raises(WorkdirNotAllowed, match="is outside"):
            rules.check(outside)


def test_the_default_is_within_the_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert WorkdirRules(allowed=[str(tmp_path)]).check(None) == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert WorkdirRules().check(None) == str(tmp_path)
