"""What an event log promises, on every database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from services.access.scope import EVERYONE
from services.errors import StoreUnavailable
from services.runs import chunks
from services.runs.log import EventLog, Fenced
from services.runs.record import Chunk, RunFilter
from tests.parts.run_stores import RunDesk, frames, restarted_of, terminal_of

ROOT = Path(__file__).parents[2]
WITHIN_S = 20.0


def numbers(data: bytes) -> list[int]:
    return [int(line[4:]) for line in data.split(b"\n") if line.startswith(b"id: ")]


class Reader:
    """A follower in a greenlet of its own."""

    def __init__(self, desk: RunDesk, run_id: str, after: int = 0, *, pause: Callable[[], object] = lambda: None, **options: Any) -> None:
        self.parts: list[bytes] = []
        self._stream = desk.log.follow(
            run_id, after, lambda: desk.runs.get(run_id, EVERYONE).terminal, **{"keep_alive_s": 3_600.0} | options
        )
        self._pause = pause
        self._greenlet = gevent.spawn(self._read)

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)

    def all(self) -> bytes:
        """What it got when its stream has ended."""
        self._greenlet.get(timeout=WITHIN_S)
        return self.data

    def waits_for(self, number: int) -> None:
        with gevent.Timeout(WITHIN_S):
            while number not in numbers(self.data):
                gevent.sleep(0.002)

    def _read(self) -> None:
        for part in self._stream:
            self.parts.append(part)
            self._pause()


@pytest.mark.parametrize("after", range(-1, 12))
def test_a_chunk_is_cut_by_number(after: int) -> None:
    whole = frames(3, 5)
    rest = chunks.after(whole, after)
    left = [number for number in range(3, 8) if number > after]
    assert rest == (frames(left[0], len(left)) if left else None)


def test_what_is_flushed_can_be_read_from_any_number_on(desk: RunDesk) -> None:
    run = desk.start()
    assert (desk.log.read(run.id, 0), desk.log.last(run.id)) == ([], 0)
    for first, count in ((1, 3), (4, 1), (5, 4)):
        desk.write(run.id, frames(first, count))
    assert desk.log.last(run.id) == 8
    for after in range(9):
        found = desk.log.read(run.id, after)
        assert b"".join(chunk.data for chunk in found) == b"".join(frames(number).data for number in range(after + 1, 9))
        assert [number for chunk in found for number in range(chunk.first, chunk.last + 1)] == list(range(after + 1, 9))
    assert desk.log.read(run.id, 100) == []


def test_the_events_of_a_response_count_from_0(desk: RunDesk) -> None:
    run = desk.start(kind="response")
    assert desk.log.last(run.id) == -1
    desk.write(run.id, frames(0, 2))
    assert (desk.log.last(run.id), desk.log.read(run.id, -1), desk.log.read(run.id, 0)) == (1, [frames(0, 2)], [frames(1)])


def test_a_read_is_limited_and_goes_on_where_it_ended(desk: RunDesk) -> None:
    run = desk.start()
    for number in range(1, 6):
        desk.write(run.id, frames(number, text="x" * 1_000))
    found = desk.log.read(run.id, 0, limit_bytes=2_500)
    assert [chunk.first for chunk in found] == [1, 2]
    assert [chunk.first for chunk in desk.log.read(run.id, 2, limit_bytes=1)] == [3]


def test_chunks_that_wait_become_one(desk: RunDesk) -> None:
    run = desk.start()
    for number in range(1, 50):
        desk.log.append(run.id, frames(number))
    desk.log.flush(run.id)
    assert desk.log.read(run.id, 0) == [frames(1, 49)]


def test_many_runs_are_stored_by_one_commit_and_those_are_at_most_fifty_a_second(open_run_desk: Callable[..., RunDesk]) -> None:
    commits: list[set[str]] = []
    desk = open_run_desk(on_commit=lambda run_ids: commits.append(set(run_ids)), commit_interval_s=0.2)
    made = [desk.start().id for _ in range(5)]
    for id in made:
        desk.log.append(id, frames(1))
    for id in made:
        desk.log.flush(id)
    assert commits == [set(made)]
    for number in range(2, 8):
        desk.log.append(made[0], frames(number))
        gevent.sleep(0.001)
    desk.log.flush(made[0])
    assert commits == [set(made), {made[0]}]


def test_nothing_is_fed_before_it_is_stored(open_run_desk: Callable[..., RunDesk]) -> None:
    desk, other = open_run_desk(), open_run_desk()
    run = desk.start()
    with desk.log.subscribe(run.id) as subscription:
        desk.log.append(run.id, frames(1))
        fed = subscription.next(WITHIN_S)
        assert fed == frames(1)
        assert other.log.read(run.id, 0) == [fed]
        assert subscription.next(0) == "silence"
        desk.log.close(run.id)
        assert subscription.next(WITHIN_S) == "look"


def test_an_append_of_a_worker_that_was_declared_dead_is_refused(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, frozen = open_run_desk(), open_run_desk()
    run, other = frozen.start(), frozen.start()
    frozen.write(run.id, frames(1, 2))
    frozen.seem_dead()
    ours.runs.bury(terminal_of, restarted_of)
    with pytest.raises(Fenced):
        frozen.write(run.id, frames(3, 5))
    for act in (lambda: frozen.log.append(run.id, frames(8)), lambda: frozen.log.flush(run.id)):
        with pytest.raises(Fenced):
            act()
    assert ours.log.last(run.id) == 2
    assert not frozen.finish(run.id, 8)
    assert numbers(Reader(ours, run.id).all()) == [1, 2, 3]
    with pytest.raises(Fenced):
        frozen.write(other.id, frames(1))


@pytest.mark.parametrize("late", [frames(3), frames(3, 7), frames(4), frames(2)], ids=["same", "larger", "later", "earlier"])
def test_of_a_run_that_is_executed_again_by_the_same_process_no_number_is_given_twice(
    open_run_desk: Callable[..., RunDesk], late: Chunk
) -> None:
    ours, other = open_run_desk(), open_run_desk()
    run = ours.start(attempts=2)
    ours.write(run.id, frames(1, 2))
    ours.seem_dead()
    other.runs.bury(terminal_of, restarted_of)
    assert ours.claim().attempt == 2
    if late.first == 4:  # what follows the log is the second attempt's
        ours.write(run.id, late)
        assert ours.log.last(run.id) == 4
    else:
        with pytest.raises(Fenced):
            ours.write(run.id, late)
        assert ours.log.last(run.id) == 3


def test_only_the_process_that_executes_a_run_appends_to_its_log(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, other = open_run_desk(), open_run_desk()
    for run in (ours.start(), ours.add()):
        with pytest.raises(Fenced):
            other.write(run.id, frames(1))
    with pytest.raises(Fenced):
        ours.write("run_unknown", frames(1))


def test_a_refused_run_does_not_disturb_others_of_its_commit(open_run_desk: Callable[..., RunDesk]) -> None:
    desk = open_run_desk()
    good, ended = desk.start(), desk.start()
    desk.runs.cancel(ended.id, EVERYONE, terminal_of)
    desk.finish(ended.id, 1, status="cancelled")
    desk.log.append(ended.id, frames(1))
    desk.log.append(good.id, frames(1))
    desk.log.flush(good.id)
    with pytest.raises(Fenced):
        desk.log.flush(ended.id)
    assert (desk.log.last(good.id), desk.log.last(ended.id)) == (1, 0)


def test_a_gap_in_the_numbers_is_never_stored(desk: RunDesk) -> None:
    run = desk.start()
    desk.log.append(run.id, frames(1))
    with pytest.raises(ValueError, match="does not follow"):
        desk.log.append(run.id, frames(3))
    desk.log.flush(run.id)
    with pytest.raises(Fenced):
        desk.write(run.id, frames(3))
    assert desk.log.last(run.id) == 1


def test_a_run_with_too_much_that_waits_is_held_up(open_run_desk: Callable[..., RunDesk]) -> None:
    desk = open_run_desk(pending_limit_bytes=100, commit_interval_s=0.05)
    run, other = desk.start(), desk.start()
    peak = 0

    def write() -> None:
        nonlocal peak
        for number in range(1, 21):
            desk.log.append(run.id, frames(number))
            peak = number

    desk.write(run_id := other.id, frames(1))  # the next commit is 50 ms away
    writer = gevent.spawn(write)
    gevent.sleep(0.005)
    held_at = peak
    desk.log.append(run_id, frames(2))  # another run is not
    writer.get(timeout=WITHIN_S)
    desk.log.flush(run.id)
    assert held_at < 20
    assert desk.log.last(run.id) == 20
    assert all(len(chunk.data) <= 100 for chunk in desk.log.read(run.id, 0))


def failing(desk: RunDesk, monkeypatch: pytest.MonkeyPatch, times: int, *, is_stored: bool = False) -> None:
    """The database fails so many times; with ``is_stored`` it has stored the transaction, and the answer is lost."""
    database, left = desk.sessions.database, times
    write = database.write

    def fails(work: Callable[[Any], Any]) -> Any:
        nonlocal left
        if left:
            left -= 1
            if is_stored:
                write(work)
            raise StoreUnavailable("lost") from OperationalError("", None, Exception("lost"))
        return write(work)

    monkeypatch.setattr(database, "write", fails)


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_commit_that_fails_is_repeated_and_stores_once(desk: RunDesk, monkeypatch: pytest.MonkeyPatch, is_stored: bool) -> None:
    run = desk.start()
    desk.write(run.id, frames(1))
    failing(desk, monkeypatch, 2, is_stored=is_stored)
    desk.write(run.id, frames(2, 3))
    desk.write(run.id, frames(5))
    assert desk.log.read(run.id, 0) == [frames(1), frames(2, 3), frames(5)]


def test_runs_fail_when_their_events_cannot_be_stored_for_long(
    open_run_desk: Callable[..., RunDesk], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_run_desk(retry_s=0.1)
    run, later = desk.start(), desk.start()
    with monkeypatch.context() as patch:
        failing(desk, patch, 1_000)
        with pytest.raises(StoreUnavailable):
            desk.write(run.id, frames(1))
    with pytest.raises(StoreUnavailable):
        desk.log.append(run.id, frames(2))
    desk.write(later.id, frames(1))
    assert desk.log.last(later.id) == 1


@pytest.mark.parametrize("joins_after", [0, 5, 10, 11])
def test_a_reader_sees_every_event_once_and_in_order_whenever_it_joins(desk: RunDesk, joins_after: int) -> None:
    run = desk.start()
    reader = None
    for number in range(1, 11):
        if number == joins_after + 1:
            reader = Reader(desk, run.id)
        desk.log.append(run.id, frames(number))
        gevent.sleep(0.001)
    if joins_after == 10:
        reader = Reader(desk, run.id)
    desk.log.flush(run.id)
    desk.finish(run.id, 11)
    reader = reader or Reader(desk, run.id)
    assert reader.all() == frames(1, 10).data + frames(11, text="done").data


@pytest.mark.parametrize("after", range(8))
def test_a_reader_that_returns_gets_what_follows_its_number(desk: RunDesk, after: int) -> None:
    run = desk.start()
    desk.write(run.id, frames(1, 4))
    desk.write(run.id, frames(5, 1))
    early = Reader(desk, run.id, after)
    gevent.sleep(0.01)
    desk.write(run.id, frames(6, 1))
    desk.finish(run.id, 7)
    for reader in (early, Reader(desk, run.id, after)):
        assert numbers(reader.all()) == list(range(after + 1, 8))


def test_a_reader_of_a_run_that_another_process_executes_sees_every_event_once(open_run_desk: Callable[..., RunDesk]) -> None:
    front, worker = open_run_desk(poll_s=(0.005, 0.02)), open_run_desk()
    waiting = worker.add()
    reader = Reader(front, waiting.id)
    run = worker.claim()
    for number in range(1, 11):
        worker.write(run.id, frames(number))
        gevent.sleep(0.003)
    reader.waits_for(10)
    worker.finish(run.id, 11)
    assert numbers(reader.all()) == list(range(1, 12))


def test_a_reader_is_woken_by_a_message_of_another_process(open_run_desk: Callable[..., RunDesk]) -> None:
    front, worker = open_run_desk(poll_s=(3_600.0, 3_600.0)), open_run_desk()
    run = worker.start()
    reader = Reader(front, run.id)
    for number in range(1, 4):
        worker.write(run.id, frames(number))
        front.log.notify(run.id)
        reader.waits_for(number)
    worker.finish(run.id, 4)
    front.log.notify(run.id)
    assert numbers(reader.all()) == [1, 2, 3, 4]


def test_a_reader_goes_on_when_the_run_moves_to_another_process(open_run_desk: Callable[..., RunDesk]) -> None:
    front, other = open_run_desk(poll_s=(0.005, 0.02)), open_run_desk()
    run = front.start(attempts=2)
    reader = Reader(front, run.id)
    front.write(run.id, frames(1, 2))
    reader.waits_for(2)
    front.seem_dead()
    other.runs.bury(terminal_of, restarted_of)
    with pytest.raises(Fenced):
        front.write(run.id, frames(3, 2, text="late"))
    again = other.claim()
    other.write(again.id, frames(4))
    other.finish(again.id, 5)
    data = reader.all()
    assert numbers(data) == [1, 2, 3, 4, 5]
    assert b"late" not in data


def test_a_reader_of_a_queued_run_sees_its_cancellation(open_run_desk: Callable[..., RunDesk]) -> None:
    desk = open_run_desk(poll_s=(3_600.0, 3_600.0))
    run = desk.add()
    reader = Reader(desk, run.id)
    gevent.sleep(0.01)
    desk.runs.cancel(run.id, EVERYONE, terminal_of)
    desk.log.notify(run.id)
    assert reader.all() == frames(1, text="cancelled").data


def test_a_slow_reader_that_is_left_behind_reads_the_rest_from_the_table(open_run_desk: Callable[..., RunDesk]) -> None:
    desk = open_run_desk(queue_limit_bytes=500, commit_interval_s=0.0)
    run = desk.start()
    gate = gevent.event.Event()
    reader = Reader(desk, run.id, pause=lambda: gate.wait(WITHIN_S))
    desk.write(run.id, frames(1))
    reader.waits_for(1)
    for number in range(2, 101):
        desk.write(run.id, frames(number))
    assert numbers(reader.data) == [1]
    gate.set()
    desk.finish(run.id, 101)
    assert numbers(reader.all()) == list(range(1, 102))


def test_a_reader_that_is_fed_asks_the_database_nothing(desk: RunDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    run = desk.start()
    desk.write(run.id, frames(1))
    reader = Reader(desk, run.id, keep_alive_s=0.01)
    reader.waits_for(1)
    with monkeypatch.context() as patch:
        patch.setattr(desk.sessions.database, "reading", lambda: pytest.fail("the reader reads"))
        for number in range(2, 10):
            desk.write(run.id, frames(number))
            reader.waits_for(number)
        with gevent.Timeout(WITHIN_S):
            while reader.parts[-1]:
                gevent.sleep(0.005)
    desk.finish(run.id, 10)
    assert numbers(reader.all()) == list(range(1, 11))


def test_silence_is_told_at_the_time_of_a_keep_alive(open_run_desk: Callable[..., RunDesk]) -> None:
    desk = open_run_desk(poll_s=(0.001, 0.001))
    for run in (desk.start(), desk.add()):
        reader = Reader(desk, run.id, keep_alive_s=0.02)
        with gevent.Timeout(WITHIN_S):
            while len(reader.parts) < 3:
                gevent.sleep(0.005)
        assert set(reader.parts) == {b""}
        desk.runs.cancel(run.id, EVERYONE, terminal_of)
        if desk.runs.get(run.id, EVERYONE).status != "cancelled":
            desk.finish(run.id, 1)
        assert numbers(reader.all()) == [1]


def test_a_reader_that_leaves_is_forgotten(desk: RunDesk) -> None:
    run = desk.start()
    desk.write(run.id, frames(1))
    stream: Iterator[bytes] = desk.log.follow(run.id, 0, lambda: None)
    assert next(stream) == frames(1).data
    assert desk.log._feed._of_run
    stream.close()  # type: ignore[attr-defined]
    assert not desk.log._feed._of_run


FORKED = """
import os, sys
from services.store.db import to_url
from tests.parts.run_stores import frames, open_desk
desk = open_desk(to_url(sys.argv[1], ""), commit_interval_s=0.05)
mine = desk.start()
desk.write(mine.id, frames(1))
desk.log.append(mine.id, frames(2))
import gevent.os
told, telling = os.pipe()
if gevent.os.fork() == 0:
    run = desk.start()
    desk.write(run.id, frames(1, 2))
    assert desk.log.last(run.id) == 2
    os.write(telling, b"done")
    os._exit(0)
os.close(telling)
desk.log.flush(mine.id)
assert desk.log.last(mine.id) == 2
assert os.read(told, 4) == b"done"
"""


def test_a_log_may_be_used_on_both_sides_of_a_fork(url: URL, desk: RunDesk) -> None:
    command = [sys.executable, "-c", FORKED, url.render_as_string(hide_password=False)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(desk.log.last(run.id) for run in desk.runs.list(RunFilter(), EVERYONE).runs) == [2, 2]


def test_a_process_that_only_reads_starts_no_greenlet(desk: RunDesk) -> None:
    run = desk.add()
    log = EventLog(desk.sessions.database, desk.sessions.us)
    assert (log.read(run.id, 0), log.last(run.id)) == ([], 0)
    assert log._committer._greenlet is None
