"""Where the CLIs keep their sessions: only the session's own files are found, copied and deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.clis.claude import spec as claude
from services.clis.codex import spec as codex
from services.clis.gemini import spec as gemini
from services.clis.session_files import SessionFiles

ID = "01a1fde5-aac9-7c01-a4f0-b88c0978cb33"
NEW = "22222222-2222-4222-8222-222222222222"
OTHER = "01a1fde5-0000-4000-8000-000000000000"  # begins like ID

LAYOUTS = [
    (claude.SPEC, "CLAUDE_CONFIG_DIR", "", ["projects/-work/{}.jsonl"], ["projects/-work/{}/tool-results/a.txt", "todos/{}-agent-x.json"]),
    (codex.SPEC, "CODEX_HOME", "", ["sessions/2026/11/21/rollout-2026-11-21T11-37-29-{}.jsonl"], []),
    (
        gemini.SPEC,
        "GEMINI_CLI_HOME",
        ".gemini",
        ["tmp/project/chats/session-2026-11-21T11-37-{short}.jsonl"],
        ["tmp/project/logs/session-{}.jsonl"],
    ),
]


def write(root: Path, pattern: str, session_id: str) -> Path:
    path = root / pattern.replace("{short}", session_id[:8]).replace("{}", session_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"sessionId": "{session_id}"}}\n{{"text": "hello"}}\n')
    return path


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize(("spec", "variable", "below", "transcripts", "companions"), LAYOUTS, ids=["claude", "codex", "gemini"])
@pytest.mark.parametrize("is_moved", [True, False])
def test_a_session_is_found_copied_and_deleted(
    tmp_path: Path, spec, variable: str, below: str, transcripts: list[str], companions: list[str], is_moved: bool
) -> None:
    files: SessionFiles = spec.session_files
    root = tmp_path / below if is_moved else tmp_path / f".{spec.name}"
    env = {variable: str(tmp_path)} if is_moved else {"HOME": str(tmp_path)}
    assert not files.has(ID, env)
    mine = [write(root, pattern, ID) for pattern in (*transcripts, *companions)]
    write(root, "projects/-work/neighbour.jsonl", OTHER)
    if spec is not gemini.SPEC:
        write(root, transcripts[0], OTHER)
    before = tree(root)
    assert files.has(ID, env)
    assert files.copy(ID, NEW, env)
    copies = sorted(set(tree(root)) - set(before))
    assert len(copies) == len(mine)
    for copy in copies:
        assert (root / copy).stat().st_mode & 0o777 == 0o600
        assert (root / copy).read_text() == f'{{"sessionId": "{NEW}"}}\n{{"text": "hello"}}\n'
    assert files.delete(NEW, env) >= 1
    assert tree(root) == before
    assert files.delete(ID, env) >= 1
    assert not [path for path in mine if path.exists()]
    assert not files.has(ID, env)
    assert files.delete(ID, env) == 0


def test_a_short_name_that_two_sessions_share_is_told_apart_by_its_content(tmp_path: Path) -> None:
    files = gemini.SPEC.session_files
    assert files
    pattern = "tmp/project/chats/session-2026-11-21T11-{}-{short}.jsonl".replace("{}", "37")
    write(tmp_path / ".gemini", pattern, OTHER)
    env = {"GEMINI_CLI_HOME": str(tmp_path)}
    assert (files.has(OTHER, env), files.has(ID, env), files.delete(ID, env)) == (True, False, 0)


@pytest.mark.parametrize("id", ["", "*", "../../etc", ID.upper(), ID + "/..", ID[:8], "[a-z]" * 8])
def test_what_is_no_id_finds_nothing(tmp_path: Path, id: str) -> None:
    files = claude.SPEC.session_files
    assert files
    kept = write(tmp_path, "projects/-work/{}.jsonl", ID)
    env = {"CLAUDE_CONFIG_DIR": str(tmp_path)}
    assert (files.has(id, env), files.delete(id, env), files.copy(id, NEW, env), files.copy(ID, id, env)) == (False, 0, False, False)
    assert kept.exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    files = claude.SPEC.session_files
    assert files
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    project = tmp_path / "config" / "projects" / "-work"
    project.mkdir(parents=True)
    (project / f"{ID}.jsonl").symlink_to(precious / "file")
    (project / ID).symlink_to(precious)
    assert files.delete(ID, {"CLAUDE_CONFIG_DIR": str(tmp_path / "config")}) == 0
    assert (precious / "file").exists()


def test_a_home_with_odd_characters_is_no_pattern(tmp_path: Path) -> None:
    files = claude.SPEC.session_files
    assert files
    home = tmp_path / "a[b]*c"
    write(home, "projects/-work/{}.jsonl", ID)
    assert files.has(ID, {"CLAUDE_CONFIG_DIR": str(home)})
