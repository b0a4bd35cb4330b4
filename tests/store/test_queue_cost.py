"""What a long queue costs those that ask about it, in steps of SQLite's virtual machine: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from services.access.scope import EVERYONE, Scope
from services.runs.record import RunFilter
from services.runs.rows import from_new
from services.store.db import to_url
from services.store.schema import runs
from tests.parts.run_stores import RunDesk, new_run, open_desk
from tests.parts.steps import steps_of

LENGTH = 5_000
LIMITS = {"max_waiting": 10 * LENGTH, "max_waiting_per_owner": 10 * LENGTH}


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDesk]:
    """A queue of `LENGTH` runs for one backend."""
    folder: Path = tmp_path_factory.mktemp("queue")
    desk = open_desk(to_url("", str(folder)))
    rows = [{**from_new(new_run(id=f"run_{at}", backend="claude"), now=at + 1), "turn": float(at)} for at in range(LENGTH)]
    desk.sessions.database.write(lambda connection: connection.execute(insert(runs), rows))
    yield desk
    desk.close()


def steps(desk: RunDesk, act: Callable[[], object]) -> int:
    return steps_of(desk.sessions.database, act)


def test_a_reader_that_looks_for_the_end_does_not_read_the_queue(crowded: RunDesk) -> None:
    last = f"run_{LENGTH - 1}"
    assert steps(crowded, lambda: crowded.runs.terminal_of(last)) < LENGTH / 10
    assert steps(crowded, lambda: crowded.runs.status_of(last)) < LENGTH / 10
    assert steps(crowded, lambda: crowded.runs.get(last, EVERYONE)) > LENGTH


def test_a_claim_for_backends_that_nobody_waits_for_does_not_read_the_queue(crowded: RunDesk) -> None:
    assert steps(crowded, lambda: crowded.runs.claim(["codex", "gemini"])) < LENGTH / 10


def test_a_page_of_runs_reads_the_queue_once(crowded: RunDesk) -> None:
    counted = steps(crowded, lambda: crowded.runs.count_queued())
    assert steps(crowded, lambda: crowded.runs.list(RunFilter(), EVERYONE, limit=20)) < 3 * counted


def test_a_run_that_joins_the_end_of_the_queue_does_not_count_it_again(crowded: RunDesk) -> None:
    counted = steps(crowded, lambda: crowded.runs.count_queued())
    added, is_new = crowded.runs.add(new_run(backend="claude"), **LIMITS)
    assert (is_new, added.position) == (True, crowded.runs.get(added.id, EVERYONE).position)
    assert steps(crowded, lambda: crowded.runs.add(new_run(backend="claude"), **LIMITS)) < 3.5 * counted


def test_a_page_of_the_runs_of_one_status_does_not_read_those_of_others(crowded: RunDesk) -> None:
    ended = [{**from_new(new_run(owner="bert"), now=at + 1), "status": "completed", "turn": float(at)} for at in range(LENGTH)]
    ended[0]["status"] = "failed"
    crowded.sessions.database.write(lambda connection: connection.execute(insert(runs), ended))
    failed = RunFilter(status="failed")
    assert [run.id for run in crowded.runs.list(failed, Scope("bert")).runs] == [ended[0]["id"]]
    assert steps(crowded, lambda: crowded.runs.list(failed, Scope("bert"))) < LENGTH / 10
    assert steps(crowded, lambda: crowded.runs.list(RunFilter(status="completed"), Scope("bert"), limit=5)) < LENGTH / 10
