from __future__ import annotations

from pathlib import Path

import pytest

from services.errors import RightMissing, WorkdirNotAllowed
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


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """``all`` is the server's prefix, ``all/mine`` the key's."""
    for name in ("all/mine/project", "all/mine-too", "all/other", "outside"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "all/mine/to-other").symlink_to(tmp_path / "all/other")
    (tmp_path / "all/to-mine").symlink_to(tmp_path / "all/mine")
    return tmp_path


def check(places: Path, workdir: str | None, *own: str) -> str:
    rules = WorkdirRules(allowed=[str(places / "all")])
    found = rules.check(workdir and str(places / workdir), [str(places / folder) for folder in own])
    return str(Path(found).relative_to(places))


def test_a_key_works_in_its_own_folders(places: Path) -> None:
    assert check(places, "all/mine/project", "all/mine") == "all/mine/project"
    assert check(places, "all/to-mine/project", "all/mine") == "all/mine/project"
    assert check(places, "all/mine", "all/other", "all/to-mine") == "all/mine"


def test_the_first_of_a_key_s_folders_is_its_default(places: Path) -> None:
    assert check(places, None, "all/mine/project", "all/other") == "all/mine/project"


@pytest.mark.parametrize("workdir", ["all", "all/other", "all/mine-too", "all/mine/to-other", "all/mine/../other", "all/missing"])
def test_a_folder_outside_of_the_key_s_is_refused_whether_or_not_it_exists(places: Path, workdir: str) -> None:
    with pytest.raises(RightMissing) as raised:
        check(places, workdir, "all/mine")
    assert raised.value.details == {"right": "workdirs", "value": str(places / workdir)}


@pytest.mark.parametrize("workdir", ["outside", "outside/missing", "all/mine/missing"])
def test_the_server_s_own_rules_come_first(places: Path, workdir: str) -> None:
    with pytest.raises(WorkdirNotAllowed):
        check(places, workdir, "all/mine")


def test_a_key_s_folder_outside_of_the_server_s_opens_nothing(places: Path) -> None:
    with pytest.raises(WorkdirNotAllowed):
        check(places, None, "outside")
