"""Deliveries of webhooks in both databases: who may send which one when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import URL

from services.runs.record import Webhook
from services.runs.webhooks import outbox as outboxes
from services.runs.webhooks.outbox import CLAIM_S, Outbox
from services.store.db import Database
from services.store.migrations import migrate
from services.store.schema import runs, webhook_deliveries
from tests.parts.runs import run_row

SECOND = 1_000_000


class Clock:
    now = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def databases(url: URL) -> Iterator[Callable[[], Database]]:
    """Each call opens the same database once more, as another process would."""
    opened: list[Database] = []

    def open_one() -> Database:
        opened.append(Database(url, lambda database: database.write(migrate)))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


@pytest.fixture
def database(databases: Callable[[], Database]) -> Database:
    return databases()


def add(database: Database, at: int, *urls: str, events: tuple[str, ...] = ()) -> None:
    """One run that has completed, and its webhook, for each of ``urls``; each a microsecond after the one before."""

    def work(connection: object) -> None:
        for number, url in enumerate(urls):
            row = run_row(f"run_{at}_{number}")
            connection.execute(insert(runs).values(row))
            webhook = Webhook(url=url, events=events, secret="")
            outboxes.add(connection, row["id"], [webhook], "run.completed", at + number)

    database.write(work)


def left(database: Database) -> int:
    with database.reading() as connection:
        return len(connection.execute(select(webhook_deliveries.c.id)).all())


def test_a_claimed_delivery_has_its_first_attempt(database: Database, clock: Clock) -> None:
    add(database, clock.now, "https://Example.com:8443/hook")
    claimed = Outbox(database, clock=clock).claim()
    assert claimed
    assert claimed.id.startswith("msg_")
    assert "." not in claimed.id
    assert (claimed.host, claimed.type, claimed.created_at, claimed.attempts) == ("example.com", "run.completed", clock.now, 1)


def test_an_event_that_the_webhook_does_not_want_is_no_delivery(database: Database, clock: Clock) -> None:
    add(database, clock.now, "https://example.com/", events=("run.failed",))
    assert left(database) == 0


def test_the_one_that_was_due_first_is_claimed_first_and_none_before_it_is_due(database: Database, clock: Clock) -> None:
    outbox = Outbox(database, clock=clock)
    add(database, clock.now, "https://a.example/", "https://b.example/", "https://c.example/")
    clock.now += 1
    assert [found.host for _ in range(3) if (found := outbox.claim())] == ["a.example", "b.example"]
    assert outbox.next_due_s() == pytest.approx(1e-6)


def test_a_busy_host_is_passed_over(database: Database, clock: Clock) -> None:
    outbox = Outbox(database, clock=clock)
    add(database, clock.now - 9, "https://busy.example/1", "https://busy.example/2", "https://idle.example/")
    claimed = outbox.claim(["busy.example"])
    assert claimed
    assert claimed.host == "idle.example"
    assert outbox.claim(["busy.example"]) is None
    assert outbox.next_due_s(["busy.example"]) is None
    assert outbox.next_due_s() == 0


def test_two_processes_never_claim_the_same(databases: Callable[[], Database], clock: Clock) -> None:
    """As threads: their transactions overlap."""
    one, other = databases(), databases()
    add(one, clock.now - 50, *(f"https://{number}.example/" for number in range(40)))
    other.open()

    def claim_all(database: Database) -> list[str]:
        return [found.id for found in iter(Outbox(database, clock=clock).claim, None)]

    with ThreadPoolExecutor(2) as threads:
        claimed = [id for ids in threads.map(claim_all, (one, other)) for id in ids]
    assert len(claimed) == len(set(claimed)) == 40


def test_the_delivery_of_a_killed_process_is_taken_up_when_its_claim_has_run_out(databases: Callable[[], Database], clock: Clock) -> None:
    one, other = (Outbox(database, clock=clock) for database in (databases(), databases()))
    add(databases(), clock.now, "https://example.com/")
    first = one.claim()
    assert first
    clock.advance(CLAIM_S - 1)
    assert other.claim() is None
    clock.advance(1)
    second = other.claim()
    assert second
    assert (second.id, second.attempts) == (first.id, 2)


def test_who_has_lost_the_claim_does_not_reschedule(database: Database, clock: Clock) -> None:
    outbox = Outbox(database, clock=clock)
    add(database, clock.now, "https://example.com/")
    lost = outbox.claim()
    clock.advance(CLAIM_S)
    held = outbox.claim()
    assert lost
    assert held
    outbox.retry(lost, 5)
    outbox.give_back(lost)
    clock.advance(CLAIM_S - 1)
    assert outbox.claim() is None
    outbox.retry(held, 5)
    clock.advance(5)
    again = outbox.claim()
    assert again
    assert again.attempts == 3


def test_a_retry_is_due_after_its_delay(database: Database, clock: Clock) -> None:
    outbox = Outbox(database, clock=clock)
    add(database, clock.now, "https://example.com/")
    claimed = outbox.claim()
    assert claimed
    assert outbox.next_due_s() is None
    outbox.retry(claimed, 30)
    assert outbox.next_due_s() == 30
    clock.advance(29.9)
    assert outbox.claim() is None
    clock.advance(0.1)
    again = outbox.claim()
    assert again
    assert (again.id, again.created_at, again.attempts) == (claimed.id, claimed.created_at, 2)


def test_what_is_given_back_is_due_at_once_and_was_no_attempt(database: Database, clock: Clock) -> None:
    outbox = Outbox(database, clock=clock)
    add(database, clock.now, "https://example.com/")
    claimed = outbox.claim()
    assert claimed
    outbox.give_back(claimed)
    again = outbox.claim()
    assert again
    assert again.attempts == 1


def test_a_removed_delivery_is_gone(database: Database, clock: Clock) -> None:
    outbox = Outbox(database, clock=clock)
    add(database, clock.now, "https://example.com/")
    claimed = outbox.claim()
    assert claimed
    outbox.remove(claimed)
    clock.advance(2 * CLAIM_S)
    assert left(database) == 0


def test_a_deleted_run_drops_its_deliveries(database: Database, clock: Clock) -> None:
    add(database, clock.now, "https://example.com/")
    database.write(lambda connection: connection.execute(delete(runs)))
    assert left(database) == 0
