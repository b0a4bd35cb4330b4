"""Continued conversations over a real process (`notes_cli`): what is remembered, for how long, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic

import gevent
import pytest

from services.errors import QueueFull
from services.fold import collect
from services.history import Message, said
from services.processes.spawner import Spawner
from services.requests import RunResult
from services.sessions.cli_sessions import CliSessions
from services.sessions.continuation import Continuation, ContinuationLimits
from services.usage import Usage
from tests.parts.processes import eventually
from tests.processes.test_conversations import NOTES, Desk
from tests.processes.test_measured import Notebook

LIMITS = ContinuationLimits(max_sessions=2, idle_s=0.2)


class Talk:
    """Says one thing after the other, and repeats all before."""

    def __init__(self, desk: Desk, continuation: Continuation) -> None:
        self.desk, self.continuation = desk, continuation
        self.said: list[Message] = []

    def say(self, text: str) -> RunResult:
        spoken = [*self.said, said("user", text)]
        request = self.desk.request(text, history=tuple(spoken), ephemeral=True)
        with self.continuation.stream(request, lambda end, text: text) as stream:
            result = collect(stream)
        self.said = [*spoken, said("assistant", result.output)]
        return result


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    spawner = Spawner()
    desk = Desk(tmp_path, spawner, places=1)
    yield desk
    desk.store.close()
    spawner.close()


@pytest.fixture
def continuation(desk: Desk, tmp_path: Path) -> Iterator[Continuation]:
    environ = {"NOTES_HOME": str(desk.home)}
    continuation = Continuation(desk.runner, CliSessions(str(tmp_path / "continued"), desk.runner, environ), LIMITS)
    yield continuation
    continuation.close()
    assert not desk.files()
    assert not list((tmp_path / "continued").iterdir())


def is_empty(desk: Desk) -> bool:
    gevent.sleep(0.01)  # files are deleted beside what runs
    return not desk.files()


def test_the_cli_is_told_what_is_new(desk: Desk, continuation: Continuation) -> None:
    talk = Talk(desk, continuation)
    assert [talk.say(text).output for text in ("one", "two")] == ["known: one", "known: one | two"]
    assert len(desk.files()) == 1


def test_what_waited_too_long_is_forgotten(desk: Desk, continuation: Continuation) -> None:
    talk = Talk(desk, continuation)
    talk.say("one")
    until = monotonic() + LIMITS.idle_s
    continuation.tidy()
    assert len(desk.files()) == 1 or monotonic() > until
    assert eventually(lambda: monotonic() > until)
    continuation.tidy()
    assert eventually(lambda: is_empty(desk))
    assert talk.say("two").output != "known: one | two"


def test_other_settings_forget_everything(desk: Desk, continuation: Continuation) -> None:
    """The name of a key may be another's now."""
    talk = Talk(desk, continuation)
    talk.say("one")
    continuation.reconfigure(replace(LIMITS))
    assert eventually(lambda: is_empty(desk))
    assert "Below is a conversation" in talk.say("two").output
    continuation.reconfigure(ContinuationLimits())
    talk.say("three")
    assert eventually(lambda: is_empty(desk))


def test_a_run_that_is_refused_takes_nothing(desk: Desk, continuation: Continuation) -> None:
    talk = Talk(desk, continuation)
    talk.say("one")
    with desk.runner.stream(desk.request("hang", ephemeral=True)), pytest.raises(QueueFull):
        talk.say("two")
    assert talk.say("two").output == "known: one | two"


@pytest.mark.parametrize(("happens", "files_left"), [("the same answer", 1), ("a reload", 0)])
def test_a_run_that_is_refused_after_a_wait_leaves_no_session_that_nobody_deletes(
    desk: Desk, continuation: Continuation, monkeypatch: pytest.MonkeyPatch, happens: str, files_left: int
) -> None:
    talk, other = Talk(desk, continuation), Talk(desk, continuation)
    talk.say("one")

    def wait_and_refuse(*_: object) -> None:
        monkeypatch.undo()
        if happens == "a reload":
            continuation.reconfigure(replace(LIMITS))
        else:
            other.say("one")
        raise QueueFull("full", backend="notes")

    monkeypatch.setattr(desk.runner, "stream", wait_and_refuse)
    with pytest.raises(QueueFull):
        talk.say("two")
    assert eventually(lambda: gevent.sleep(0.01) or len(desk.files()) == files_left)


def test_a_cli_that_counts_the_whole_session_is_told_by_the_turn(desk: Desk, continuation: Continuation) -> None:
    desk.runner.backends = {"notes": replace(NOTES, resumed_usage_is_total=True)}
    talk = Talk(desk, continuation)
    used = [talk.say(text).usage for text in ("one", "two", "three")]
    assert [usage and (usage.input_tokens, usage.output_tokens) for usage in used] == [(1, 2), (1, 0), (1, 0)]


def test_the_log_and_the_metrics_count_the_turn_alone(desk: Desk, continuation: Continuation) -> None:
    desk.runner.backends = {"notes": replace(NOTES, resumed_usage_is_total=True)}
    desk.runner.observer = notebook = Notebook()
    talk = Talk(desk, continuation)
    for text in ("one", "two"):
        talk.say(text)
    assert [run.fold.usage for run in notebook.finished] == [Usage(1, 2), Usage(1, 0)]


def test_a_lost_session_s_count_is_no_part_of_the_new_one_s(desk: Desk, continuation: Continuation) -> None:
    desk.runner.backends = {"notes": replace(NOTES, resumed_usage_is_total=True)}
    talk = Talk(desk, continuation)
    talk.say("one")
    (path,) = desk.chats.iterdir()
    path.unlink()
    again = talk.say("two")
    assert again.output.startswith("known: Below is a conversation")
    assert again.usage
    assert (again.usage.input_tokens, again.usage.output_tokens) == (1, 2)
