"""The usage ledger and its sums, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import gevent
import pytest
from sqlalchemy import func, select
from sqlalchemy.engine import URL

from services.access.rights import Rights
from services.errors import StoreUnavailable
from services.events import Failed, Finished
from services.ledger import expiry, writing
from services.ledger.entry import DAY_US, Entry, first_id, new_id
from services.ledger.ledger import Ledger
from services.ledger.prices import Price, Prices
from services.ledger.sums import Question, Sums
from services.store.schema import usage_days, usage_runs
from services.store.sessions import SessionStore
from services.usage import Usage
from tests.parts.quotas import QuotaDesk, open_quota_desk, until

MIDNIGHT = round(datetime(2026, 3, 10, tzinfo=UTC).timestamp() * 1e6)
HOUR = 3_600_000_000
numbers = count(1)
KEYS = {"anna": Rights(), "ben": Rights()}


@pytest.fixture
def ledger(store: SessionStore) -> Iterator[Ledger]:
    ledger = Ledger(store.database)
    yield ledger
    ledger.close()


@pytest.fixture
def open_quotas(url: URL) -> Iterator[Callable[..., QuotaDesk]]:
    opened: list[QuotaDesk] = []

    def start(**options: Any) -> QuotaDesk:
        opened.append(open_quota_desk(url, KEYS, **options))
        return opened[-1]

    yield start
    for desk in opened:
        desk.close()


def entry(at: int, **more: Any) -> Entry:
    """``at``: hours after `MIDNIGHT`."""
    given: dict[str, Any] = {
        "id": first_id(MIDNIGHT + at * HOUR) + next(numbers),
        "owner": "anna",
        "backend": "claude",
        "model": "sonnet",
        "run_id": "run_1",
        "is_failure": False,
        "is_fallback": False,
        "usage": Usage(100, 10, 40),
        "cost_usd": 0.5,
        "is_cost_estimated": False,
        "duration_ms": 1_500,
    }
    return Entry(**given | more)


def asked(ledger: Ledger, since: int, until_: int, *groups: Any, **filters: Any) -> dict[tuple[Any, ...], Sums]:
    """``since``, ``until_``: hours after `MIDNIGHT`."""
    return ledger.ask(Question(since=MIDNIGHT + since * HOUR, until=MIDNIGHT + until_ * HOUR, groups=groups or ("day",), **filters))


def runs(sums: dict[tuple[Any, ...], Sums]) -> list[float]:
    return [one["runs"] for one in sums.values()]


def test_a_run_is_in_the_ledger_as_it_ended(ledger: Ledger) -> None:
    ledger.add(entry(1))
    ledger.add(entry(2, is_failure=True, is_fallback=True, is_cost_estimated=True))
    (sums,) = asked(ledger, 0, 24).values()
    assert sums == {
        "runs": 2,
        "failures": 1,
        "fallbacks": 1,
        "estimates": 1,
        "input_tokens": 200,
        "output_tokens": 20,
        "cached_tokens": 80,
        "cost_usd": 1.0,
        "duration_ms": 3_000,
    }


def test_the_sums_of_days_and_of_single_runs_are_the_same(ledger: Ledger) -> None:
    many = [entry(hour, owner=f"key-{hour % 3}", model=f"model-{hour % 5}", is_failure=hour % 7 == 0) for hour in range(72)]
    for one in many:
        ledger.add(one)
    for since, stop in [(0, 72), (5, 67), (5, 7), (23, 25), (24, 48), (30, 30), (13, 48), (24, 60)]:
        assert sum(runs(asked(ledger, since, stop))) == stop - since
        assert sum(one["failures"] for one in asked(ledger, since, stop).values()) == sum(hour % 7 == 0 for hour in range(since, stop))
    of_one = {key: one for key, one in asked(ledger, 5, 67, "key", "model").items() if key[0] == "key-0"}
    assert asked(ledger, 5, 67, "key", "model", owner="key-0") == of_one


def test_the_beginning_is_included_and_the_end_is_not(ledger: Ledger) -> None:
    at = MIDNIGHT + HOUR
    ledger.add(entry(1, id=first_id(at)))
    for since, stop, found in [(at, at + 1, 1), (at - 1, at, 0), (at + 1, at + HOUR, 0)]:
        assert sum(runs(ledger.ask(Question(since=since, until=stop)))) == found


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        (("key",), {("anna",): 2, ("ben",): 1}),
        (("backend",), {("claude",): 1, ("codex",): 2}),
        (("model",), {("",): 1, ("gpt-5",): 1, ("sonnet",): 1}),
        (("day",), {(MIDNIGHT // DAY_US,): 2, (MIDNIGHT // DAY_US + 1,): 1}),
        (("day", "key"), {(MIDNIGHT // DAY_US, "anna"): 1, (MIDNIGHT // DAY_US, "ben"): 1, (MIDNIGHT // DAY_US + 1, "anna"): 1}),
    ],
)
@pytest.mark.parametrize(("since", "stop"), [(0, 48), (1, 47)])
def test_usage_is_grouped_by_any_of_its_facts(
    ledger: Ledger, groups: tuple[Any, ...], wanted: dict[tuple[Any, ...], int], since: int, stop: int
) -> None:
    ledger.add(entry(2))
    ledger.add(entry(3, owner="ben", backend="codex", model="gpt-5"))
    ledger.add(entry(26, backend="codex", model=""))
    assert {key: one["runs"] for key, one in asked(ledger, since, stop, *groups).items()} == wanted


def test_filters_leave_the_rest_out(ledger: Ledger) -> None:
    ledger.add(entry(2))
    ledger.add(entry(3, owner="ben", backend="codex", model="gpt-5"))
    assert runs(asked(ledger, 0, 24, owner="ben")) == [1]
    assert runs(asked(ledger, 0, 24, backend="codex", model="gpt-5")) == [1]
    assert runs(asked(ledger, 1, 23, backend="codex", model="sonnet")) == []


def test_what_is_to_come_is_no_error(ledger: Ledger) -> None:
    far = round(datetime(9999, 12, 31, tzinfo=UTC).timestamp() * 1e6)
    ledger.add(entry(1))
    assert runs(ledger.ask(Question(since=MIDNIGHT, until=far + 5))) == [1]
    assert runs(ledger.ask(Question(since=far - 5, until=far))) == []


def test_entries_are_stored_a_moment_later_without_anybody_waiting(ledger: Ledger, store: SessionStore) -> None:
    for _ in range(50):
        ledger.add(entry(1))
    assert ledger.pending == 50
    assert until(lambda: ledger.pending == 0)
    with store.database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(usage_runs)).scalar_one() == 50
        assert connection.execute(select(usage_days.c.runs)).scalars().all() == [50]


def test_entries_are_stored_when_the_process_ends(store: SessionStore) -> None:
    ledger, next_process = Ledger(store.database, interval_s=600), Ledger(store.database)
    ledger.add(entry(1))
    ledger.close()
    assert runs(asked(next_process, 0, 24)) == [1]


def test_a_store_that_is_away_for_a_while_loses_nothing_and_counts_nothing_twice(
    ledger: Ledger, store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, failures = store.database.write, iter([True, True])

    def sometimes(work: Callable[..., Any]) -> Any:
        if next(failures, False):
            write(work)  # it is stored, and the answer is lost
            raise StoreUnavailable("away")
        return write(work)

    monkeypatch.setattr(store.database, "write", sometimes)
    ledger.add(entry(1))
    ledger.add(entry(2))
    with pytest.raises(StoreUnavailable):
        ledger.flush()
    ledger.add(entry(3))
    assert ledger.pending == 3
    assert until(lambda: ledger.pending == 0)
    assert runs(asked(ledger, 0, 24)) == [3]


def test_an_entry_that_the_database_cannot_take_costs_itself_alone(ledger: Ledger) -> None:
    lost: list[int] = []
    ledger.on_lost = lost.append
    ledger.add(entry(1))
    ledger.add(entry(2, run_id=object()))
    ledger.add(entry(3))
    assert runs(asked(ledger, 0, 24)) == [2]
    assert lost == [1]


def test_too_many_entries_that_wait_are_given_up_from_the_oldest(store: SessionStore) -> None:
    lost: list[int] = []
    ledger = Ledger(store.database, interval_s=600, pending_limit=3)
    ledger.on_lost = lost.append
    for hour in range(5):
        ledger.add(entry(hour, owner=f"key-{hour}"))
    assert lost == [1, 1]
    assert set(asked(ledger, 0, 24, "key")) == {("key-2",), ("key-3",), ("key-4",)}


def test_two_processes_add_to_the_same_sums(url: URL, open_store: Callable[..., SessionStore]) -> None:
    ledgers = [Ledger(open_store().database) for _ in range(2)]
    for hour in range(20):
        for ledger in ledgers:
            ledger.add(entry(hour % 3))
    gevent.joinall([gevent.spawn(ledger.flush) for ledger in ledgers], raise_error=True)
    assert runs(asked(ledgers[0], 0, 24)) == [40]


def test_old_entries_are_deleted_and_their_sums_stay(ledger: Ledger, store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "BATCH", 2)
    store.database.write(lambda connection: writing.add(connection, [entry(hour) for hour in (1, 2, 3, 4, 5, 30)]))
    assert expiry.expire(store.database, first_id(MIDNIGHT + 24 * HOUR)) == 5
    assert runs(asked(ledger, 0, 48)) == [5, 1]
    assert runs(asked(ledger, 25, 47)) == [1]


def test_retention_keeps_what_is_young(ledger: Ledger) -> None:
    now = round(datetime.now(UTC).timestamp() * 1e6)
    ledger.retention_days = 2
    ledger.add(entry(0, id=new_id(now)))
    ledger.add(entry(0, id=new_id(now - 3 * DAY_US)))
    ledger.flush()
    ledger.expire()
    with ledger._database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(usage_runs)).scalar_one() == 1


def test_a_run_without_a_cost_is_estimated_by_the_longest_pattern_and_marked(open_quotas: Callable[..., QuotaDesk]) -> None:
    prices = Prices({"gpt-*": Price(input=1, output=1, cached=1), "codex/GPT-5": Price(input=2, output=10, cached=0.5)})
    desk = open_quotas(prices=prices)
    end = desk.run(end=Finished(usage=Usage(1_000_000, 100_000, 400_000)), backend="codex", model="gpt-5")
    assert (end.cost_usd, end.is_cost_estimated) == (pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.1 * 10), True)
    known = desk.run(end=Finished(usage=Usage(10, 1), cost_usd=0.25), backend="codex", model="gpt-5")
    assert (known.cost_usd, known.is_cost_estimated) == (0.25, False)
    assert desk.total(model="gpt-5")["cost_usd"] == pytest.approx(2.4 + 0.25)
    assert desk.total(model="gpt-5")["estimates"] == 1


def test_a_run_that_was_cancelled_is_no_failure(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas()
    for kind in ("cancelled", "shutdown", "server_stopped", "timeout"):
        desk.run(end=Failed(kind, "-"))  # type: ignore[arg-type]
    assert (desk.total()["runs"], desk.total()["failures"]) == (4, 1)


def test_a_model_that_does_not_exist_is_not_kept(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas()
    desk.run(end=Failed("unknown_model", "-"))
    assert desk.total(model="")["runs"] == 1
