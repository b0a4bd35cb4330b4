"""Where a client's file is, and how it is replaced."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.clients import files
from app.clients.connections import CLIENTS, Place
from app.clients.files import Changed
from app.clients.unreadable import Unreadable


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLAUDE_CONFIG_DIR", "XDG_CONFIG_HOME", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def place_of(client: str, purpose: str) -> Place:
    return CLIENTS[client].connections[purpose].place


def test_the_file_of_the_user_of_the_folder_that_a_variable_names_and_of_a_project(home, monkeypatch) -> None:
    place = place_of("claude", "mcp")
    assert files.path_of(place, None) == home / ".claude.json"
    assert files.path_of(place, Path("/x")) == Path("/x/.mcp.json")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", "/elsewhere")
    assert files.path_of(place, None) == Path("/elsewhere/.claude.json")


def test_of_two_possible_files_the_one_that_exists(home) -> None:
    place = place_of("opencode", "mcp")
    folder = home / ".config" / "opencode"
    assert files.path_of(place, None) == folder / "opencode.json"
    folder.mkdir(parents=True)
    (folder / "opencode.jsonc").touch()
    assert files.path_of(place, None) == folder / "opencode.jsonc"


@pytest.mark.parametrize(("platform", "folder"), [("linux", ".config"), ("darwin", "Library/Application Support")])
def test_a_mac_has_its_own_folder(home, monkeypatch, platform: str, folder: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert files.path_of(place_of("vscode", "mcp"), None) == home / folder / "Code/User/mcp.json"


def test_a_link_within_the_folder_stays_a_link(home) -> None:
    (home / "dotfiles").mkdir()
    (home / "dotfiles" / "a").write_text("old")
    (home / "a").symlink_to("dotfiles/a")
    stored = files.read(home / "a", home)
    files.write(stored, "new", mode=stored.mode, keeps_backup=True)
    assert ((home / "a").is_symlink(), (home / "a").read_text()) == (True, "new")
    assert (home / "dotfiles" / "a.clinvk-backup").read_text() == "old"


def test_a_link_that_leads_out_of_the_folder_is_refused(home) -> None:
    (home / "inside").mkdir()
    (home / "outside").write_text("x")
    (home / "inside" / "a").symlink_to("../outside")
    with pytest.raises(Unreadable, match=r"it links to .*/outside, outside of .*/inside; edit that file by hand"):
        files.read(home / "inside" / "a", home / "inside")


def test_what_another_program_wrote_in_the_meantime_is_not_lost(home) -> None:
    path = home / "a"
    path.write_text("old")
    stored = files.read(path, home)
    path.write_text("theirs")
    with pytest.raises(Changed, match="try again"):
        files.write(stored, "ours", mode=stored.mode, keeps_backup=False)
    with pytest.raises(Changed):
        files.delete(stored)
    assert [path.read_text(), *home.iterdir()] == ["theirs", path]


def test_neither_too_long_nor_foreign_text_is_read(home, monkeypatch) -> None:
    (home / "a").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(Unreadable, match="byte 7 is not UTF-8"):
        _ = files.read(home / "a", home).text
    monkeypatch.setattr(files, "LIMIT_BYTES", 3)
    with pytest.raises(Unreadable, match="larger"):
        files.read(home / "a", home)
