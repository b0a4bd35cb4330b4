"""The run store and the event log on SQLite in memory: the short version of `tests/store/test_runs.py` and `test_event_log.py`."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from sqlalchemy.engine import URL

from services.access.scope import EVERYONE, Scope
from services.errors import Conflict, KeyReused
from services.runs.log import Fenced
from services.runs.record import ENDED, LIVE, STATUSES, IdempotencyKey, RunFilter, first_number, new_run_id
from tests.parts.run_stores import RunDesk, end, frames, new_run, open_desk, restarted_of, terminal_of


@pytest.fixture
def desk() -> Iterator[RunDesk]:
    desk = open_desk(URL.create("sqlite"))
    yield desk
    desk.close()


def test_a_run_from_the_queue_to_its_end(desk: RunDesk) -> None:
    waiting = desk.add(title="t")
    assert (waiting.status, waiting.position) == ("queued", 1)
    run = desk.claim("claude")
    assert (run.id, run.status) == (waiting.id, "running")
    stream = desk.log.follow(run.id, 0, lambda: desk.runs.get(run.id, EVERYONE).terminal)
    reader = gevent.spawn(lambda: b"".join(stream))
    desk.write(run.id, frames(1, 2))
    desk.write(run.id, frames(3))
    assert desk.finish(run.id, 4, result=b"{}")
    assert reader.get(timeout=10) == frames(1, 3).data + frames(4, text="done").data
    assert desk.runs.get(run.id, Scope("anna")).result == b"{}"
    assert [found.id for found in desk.runs.list(RunFilter(status="completed"), Scope("anna")).runs] == [run.id]


def test_owners_take_turns(desk: RunDesk) -> None:
    for _ in range(10):
        desk.add(owner="anna")
    desk.claim()
    desk.add(owner="bert")
    assert [desk.claim().owner for _ in range(2)] == ["bert", "anna"]


def test_a_key_starts_one_run(desk: RunDesk) -> None:
    key = IdempotencyKey(key="k", body_hash="a")
    jobs = [gevent.spawn(desk.runs.begin, new_run(idempotency=key, is_background=False)) for _ in range(50)]
    gevent.joinall(jobs, raise_error=True, timeout=10)
    assert [job.value[1] for job in jobs].count(True) == 1
    with pytest.raises(KeyReused):
        desk.runs.begin(new_run(idempotency=IdempotencyKey(key="k", body_hash="b")))


def test_a_queued_run_that_is_cancelled_has_a_terminal_event(desk: RunDesk) -> None:
    run = desk.runs.cancel(desk.add().id, Scope("anna"), terminal_of)
    assert (run.status, run.terminal) == ("cancelled", frames(1, text="cancelled"))
    desk.runs.delete(run.id, Scope("anna"))


def test_a_cancellation_that_cannot_make_its_event_changes_nothing(desk: RunDesk) -> None:
    run = desk.add()
    with pytest.raises(ZeroDivisionError):
        desk.runs.cancel(run.id, EVERYONE, lambda run, number: frames(number // 0))
    assert desk.runs.get(run.id, EVERYONE) == run


def test_a_run_that_has_not_ended_stays(desk: RunDesk) -> None:
    run = desk.start()
    with pytest.raises(Conflict):
        desk.runs.delete(run.id, EVERYONE)
    assert desk.runs.expire(retention_s=0, events_retention_s=0) == 0
    desk.finish(run.id, 1)
    assert desk.runs.expire(retention_s=0, events_retention_s=0) == 1


def test_an_event_that_was_stored_while_the_run_was_asked_for_its_end_is_not_missed(desk: RunDesk) -> None:
    run = desk.start()
    desk.write(run.id, frames(1))

    def is_over() -> object:
        desk.write(run.id, frames(2))
        desk.finish(run.id, 3)
        return desk.runs.get(run.id, EVERYONE).terminal

    assert b"".join(desk.log.follow(run.id, 0, is_over)) == frames(1, 2).data + frames(3, text="done").data  # type: ignore[arg-type]


def test_an_ended_run_takes_no_events(desk: RunDesk) -> None:
    run = desk.start()
    desk.runs.end(run.id, end(1))
    with pytest.raises(Fenced):
        desk.write(run.id, frames(1))


def test_the_runs_of_a_living_process_are_not_buried(desk: RunDesk) -> None:
    desk.start()
    assert list(desk.runs.bury(terminal_of, restarted_of)) == []


def test_a_run_is_either_queued_or_executed_or_has_ended() -> None:
    assert sorted(("queued", *LIVE, *ENDED)) == sorted(STATUSES)
    assert (first_number("response"), first_number("prompt")) == (0, 1)
    assert len({new_run_id() for _ in range(100)}) == 100
