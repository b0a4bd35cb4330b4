"""What is written down of responses that were continued, over a real process (`notes_cli`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.errors import InvalidRequest, QueueFull, ResponseNotFound
from services.fold import collect
from services.processes.spawner import Spawner
from services.requests import RunResult
from services.sessions.cli_sessions import CliSessions
from services.sessions.response_tree import ResponseTree
from tests.processes.test_conversations import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    spawner = Spawner()
    desk = Desk(tmp_path, spawner, places=1)
    yield desk
    desk.store.close()
    spawner.close()


def tree_of(desk: Desk) -> ResponseTree:
    sessions = CliSessions(str(desk.home.with_name("continued")), desk.runner, {"NOTES_HOME": str(desk.home)})
    return ResponseTree(str(notes_of(desk)), desk.runner, sessions)


def notes_of(desk: Desk) -> Path:
    return desk.home.with_name("responses")


def ask(desk: Desk, prompt: str, session: str | None = None, node: str | None = None, tree: ResponseTree | None = None) -> RunResult:
    with (tree or tree_of(desk)).stream(desk.request(prompt, resume=session), node) as stream:
        return collect(stream)


def test_another_process_knows_what_was_continued(desk: Desk) -> None:
    root = ask(desk, "root").session_id
    left = ask(desk, "left", root, "00", tree_of(desk))
    right = ask(desk, "right", root, "00", tree_of(desk))
    assert [left.session_id == root, right.session_id == root] == [True, False]
    assert [left.output, right.output] == ["known: root | left", "known: root | right"]


def test_a_continuation_that_is_refused_was_none(desk: Desk) -> None:
    root = ask(desk, "root").session_id
    with desk.runner.stream(desk.request("hang", ephemeral=True)), pytest.raises(QueueFull):
        ask(desk, "too many", root, "00")
    assert not list(notes_of(desk).iterdir())
    assert ask(desk, "left", root, "00").session_id == root


def test_a_session_that_did_not_only_grow_is_not_copied(desk: Desk) -> None:
    root = ask(desk, "root").session_id
    ask(desk, "left", root, "00")
    (path,) = desk.chats.iterdir()
    path.write_text("another\n" + path.read_text())
    with pytest.raises(InvalidRequest, match="changed since"):
        ask(desk, "right", root, "00")


def test_what_was_written_down_goes_with_the_session(desk: Desk) -> None:
    kept, gone = ask(desk, "kept").session_id, ask(desk, "gone").session_id
    for session in (kept, gone):
        ask(desk, "on", session, "00")
    (desk.chats / f"{gone}.txt").unlink()
    tree_of(desk).tidy()
    assert [path.name for path in notes_of(desk).iterdir()] == [f"notes~{kept}~00"]
    with pytest.raises(ResponseNotFound):
        ask(desk, "on", gone, "00")
