"""A run's share of a process that serves many, without the process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import gevent
import pytest

from services.clis.codex import spec as codex
from services.decoding.decoder import Exit
from services.events import Text
from services.execution import channel as channels
from services.execution.channel import Channel
from tests.unit.services.clis.invoked import invoked


class NoProcess:
    """As much of a `MultiplexedWorker` as its channels use."""

    exit: Exit | None = None
    is_draining = False

    def __init__(self, folder: Path) -> None:
        self.folder = SimpleNamespace(path=str(folder))

    def add(self, channel: Channel) -> None: ...
    def drop(self, channel: Channel) -> None: ...
    def flush(self) -> None: ...


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Channel:
    """Of a turn that has begun."""
    worker: Any = NoProcess(tmp_path)
    channel = Channel(worker, invoked(codex.SPEC, ephemeral=True))
    channel.turn.answered("thread/start", {"thread": {"id": "t"}})
    channel.turn.answered("turn/start", {"turn": {"id": "u"}})
    return channel


def end_turn(channel: Channel, status: str) -> None:
    params = {"threadId": "t", "turn": {"id": "u", "status": status}}
    channel.put(channel.turn.notified("turn/completed", params), b"{}")


@pytest.mark.parametrize(("is_interrupted", "ended"), [(True, 1), (False, 0)], ids=["interrupted", "finished"])
def test_what_an_interrupted_turn_has_started_is_ended_though_it_told_of_no_tool(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, is_interrupted: bool, ended: int
) -> None:
    marks: list[str] = []
    monkeypatch.setattr(channels, "end_marked", marks.append)
    if is_interrupted:
        channel.stop()
    end_turn(channel, "interrupted" if is_interrupted else "completed")
    assert channel.wait_exit(1.0) == Exit(0)
    channel.close()
    assert len(marks) == ended


def test_a_turn_whose_client_did_not_read_is_over_as_soon_as_it_has_stopped(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "INTERRUPT_S", 30.0)
    for _ in range(2):
        channel.put([Text("x")], b"x" * (channels.QUEUE_LIMIT_BYTES + 1))
    assert channel.has_overflowed
    gevent.spawn_later(0.05, end_turn, channel, "interrupted")
    with gevent.Timeout(5):
        assert channel.wait_exit(1.0) == Exit(0)


def test_lines_without_events_leave_the_queue_s_room_to_those_that_have_some(channel: Channel) -> None:
    line = b"x" * (channels.QUEUE_LIMIT_BYTES // 4)
    for _ in range(9):
        channel.put([], line)
    assert not channel.has_overflowed
    for _ in range(6):
        channel.put([Text("x")], line)
    assert channel.has_overflowed


def test_the_run_gets_as_many_bytes_as_its_lines_had(channel: Channel) -> None:
    for batch in ([], [Text("x")], []):
        channel.put(batch, b"x" * 100)
    assert [len(line) for line in (channel.read(0.0) or b"").split(b"\n")] == [100, 100, 100, 0]
    assert channel.take_events() == [Text("x")]


@pytest.mark.parametrize("failing", ["flush", "drop"])
def test_an_error_while_a_run_is_closed_leaves_nothing_of_it_open(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, failing: str
) -> None:
    marks: list[str] = []
    monkeypatch.setattr(channels, "end_marked", marks.append)
    worker: Any = channel._worker
    setattr(worker, failing, MagicMock(side_effect=RuntimeError("a bug")))
    dropped = worker.drop = MagicMock(side_effect=worker.drop)
    gevent.spawn_later(0.01, end_turn, channel, "interrupted")
    with pytest.raises(RuntimeError):
        channel.close()
    assert (dropped.called, len(marks), list(tmp_path.iterdir())) == (True, 1, [])
    assert worker.is_draining == (failing == "flush")
