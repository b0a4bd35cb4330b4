"""When webhook deliveries are sent, sent again and given up. The database is in memory, and so are the names of the hosts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import make_url

from services.errors import StoreUnavailable
from services.runs.record import Run, Webhook
from services.runs.webhooks import outbox as outboxes
from services.runs.webhooks import signing
from services.runs.webhooks.deliverer import ATTEMPTS, JITTER, RETRY_AFTER_S, SENDING_LIMIT, SENDING_TO_HOST_LIMIT, Deliverer, random_factor
from services.runs.webhooks.delivery import Delivery
from services.runs.webhooks.outbox import CLAIM_S, Outbox
from services.runs.webhooks.sender import Outcome, Sender
from services.store.db import Database
from services.store.migrations import migrate
from services.store.schema import runs, webhook_deliveries
from tests.parts.runs import run_row
from tests.parts.webhook_receiver import OK, never, receiving, soon, status

SECOND = 1_000_000
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ACCEPTED, REFUSED = Outcome(200, "HTTP status 200"), Outcome(500, "HTTP status 500")


class Clock:
    now = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now


@dataclass
class FakeSender(Sender):
    """Notes what it shall send; ``answer`` makes the outcome of the n-th request from its number and URL."""

    answer: Callable[[int, str], Outcome] = lambda number, url: ACCEPTED
    sent: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def send(self, url: str, headers: Any, body: bytes) -> Outcome:
        self.sent.append((url, dict(headers), body))
        return self.answer(len(self.sent), url)

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.sent]


class Bench:
    """Runs with webhooks, and deliverers that share their database and clock as processes would."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.database = Database(make_url("sqlite://"), lambda database: database.write(migrate))
        self.webhooks: dict[str, Webhook] = {}
        self._started: list[Deliverer] = []

    def close(self) -> None:
        for deliverer in self._started:
            deliverer.stop()
        self.database.close()

    def end_run(self, url: str = "https://example.com/hook", type: str = "run.completed") -> str:
        """A run ends, and its webhook becomes due."""
        id = f"run_{len(self.webhooks)}"
        webhook = self.webhooks[id] = Webhook(url=url, secret=SECRET)

        def work(connection: Any) -> None:
            connection.execute(insert(runs).values(run_row(id)))
            outboxes.add(connection, id, [webhook], type, self.clock.now)

        self.database.write(work)
        return id

    def start(self, sender: Sender, **options: Any) -> Deliverer:
        outbox = options.pop("outbox", None) or Outbox(self.database, clock=self.clock)
        defaults = {"find_run": self.find_run, "to_payload": to_payload, "clock": self.clock, "jitter": lambda: 1.0, "look_s": 0.01}
        self._started.append(Deliverer(outbox, sender, **{**defaults, **options}))
        self._started[-1].start()
        return self._started[-1]

    def find_run(self, id: str) -> Run | None:
        webhook = self.webhooks.get(id)
        facts = {
            "kind": "prompt",
            "owner": "somebody",
            "is_background": True,
            "request_id": "req_1",
            "status": "completed",
            "created_at": 0,
        }
        return Run(id=id, webhooks=(webhook,), **facts) if webhook else None

    def pass_time(self, seconds: float) -> None:
        self.clock.now += int(seconds * SECOND)

    def rows(self) -> list[Any]:
        with self.database.reading() as connection:
            return list(connection.execute(select(webhook_deliveries)))

    def is_settled(self) -> bool:
        """No row is left, or all wait for their next attempt."""
        return all(row.attempts and row.claimed_until is None for row in self.rows())


def to_payload(run: Run, delivery: Delivery) -> bytes:
    return json.dumps({"type": delivery.type, "id": run.id}).encode()


@pytest.fixture
def bench() -> Iterator[Bench]:
    one = Bench()
    yield one
    one.close()


def test_a_due_delivery_is_signed_sent_and_removed(bench: Bench) -> None:
    sender = FakeSender()
    run_id = bench.end_run("https://example.com/hook?token=abc")
    (row,) = bench.rows()
    bench.start(sender)
    assert soon(lambda: not bench.rows())
    body = json.dumps({"type": "run.completed", "id": run_id}).encode()
    assert sender.sent == [("https://example.com/hook?token=abc", signing.headers(SECRET, row.id, bench.clock.now // SECOND, body), body)]


def test_a_wake_up_sends_what_was_just_inserted(bench: Bench) -> None:
    sender = FakeSender()
    deliverer = bench.start(sender, look_s=1_000)
    gevent.sleep(0.01)
    bench.end_run()
    deliverer.wake()
    assert soon(lambda: sender.sent)


def test_without_a_wake_up_it_looks_by_itself(bench: Bench) -> None:
    sender = FakeSender()
    bench.start(sender)
    gevent.sleep(0.01)
    bench.end_run()
    assert soon(lambda: sender.sent)


def test_failures_are_sent_again_with_growing_delays_and_given_up_after_the_last(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    sender = FakeSender(lambda number, url: REFUSED)
    bench.start(sender)
    caplog.set_level(logging.INFO)
    bench.end_run("https://example.com/hook?token=abc")
    delays = []
    for attempt in range(1, ATTEMPTS):
        assert soon(lambda attempt=attempt: len(sender.sent) == attempt and bench.is_settled())
        delay_us = bench.rows()[0].due_at - bench.clock.now
        delays.append(delay_us / SECOND)
        bench.clock.now += delay_us - 1
        gevent.sleep(0.02)
        assert len(sender.sent) == attempt
        bench.clock.now += 1
    assert soon(lambda: not bench.rows())
    assert delays == [5, 30, 120, 600, 3600]
    assert len(sender.sent) == ATTEMPTS == 6
    assert "is given up after 6 attempts: HTTP status 500" in caplog.text
    assert "token" not in caplog.text
    assert SECRET not in caplog.text
    assert SECRET.removeprefix("whsec_") not in caplog.text


def test_a_retry_keeps_the_id_and_renews_time_and_signature(bench: Bench) -> None:
    with receiving(status(500), OK) as receiver:
        bench.start(Sender(["hooks.internal"], lookup=receiver.lookup()))
        bench.end_run(f"http://hooks.internal:{receiver.port}/")
        assert soon(lambda: receiver.requests and bench.is_settled())
        bench.pass_time(RETRY_AFTER_S[0])
        assert soon(lambda: not bench.rows())
        first, second = (request.headers for request in receiver.requests)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 5
    for request in receiver.requests:
        at = int(request.headers["webhook-timestamp"])
        expected = signing.headers(SECRET, request.headers["webhook-id"], at, request.body)
        assert request.headers["webhook-signature"] == expected["webhook-signature"]
    assert first["webhook-signature"] != second["webhook-signature"]


def test_delays_vary_by_a_tenth(bench: Bench) -> None:
    factors = [random_factor() for _ in range(200)]
    assert 1 - JITTER <= min(factors) < 0.95
    assert 1.05 < max(factors) <= 1 + JITTER
    bench.start(FakeSender(lambda number, url: REFUSED), jitter=lambda: 0.9)
    bench.end_run()
    assert soon(bench.is_settled)
    assert bench.rows()[0].due_at == bench.clock.now + 4.5 * SECOND


@pytest.mark.parametrize("code", [304, 400, 404, 410, 429, 503])
def test_every_status_outside_2xx_is_sent_again(bench: Bench, code: int) -> None:
    sender = FakeSender(lambda number, url: Outcome(code, f"HTTP status {code}") if number == 1 else ACCEPTED)
    bench.start(sender)
    bench.end_run()
    assert soon(lambda: sender.sent and bench.is_settled())
    bench.pass_time(RETRY_AFTER_S[0])
    assert soon(lambda: not bench.rows())
    assert len(sender.sent) == 2


def test_a_restart_goes_on_where_it_was(bench: Bench) -> None:
    before, after = FakeSender(lambda number, url: REFUSED), FakeSender()
    deliverer = bench.start(before)
    bench.end_run()
    assert soon(lambda: before.sent and bench.is_settled())
    deliverer.stop()
    bench.pass_time(RETRY_AFTER_S[0])
    bench.start(after)
    assert soon(lambda: not bench.rows())
    assert after.ids == before.ids


def test_a_stop_cuts_off_what_is_being_sent_and_the_next_start_sends_it_again(bench: Bench) -> None:
    with receiving(never, OK) as receiver:
        sender = Sender(["hooks.internal"], lookup=receiver.lookup())
        deliverer = bench.start(sender)
        bench.end_run(f"http://hooks.internal:{receiver.port}/")
        assert soon(lambda: receiver.requests)
        deliverer.stop()
        assert [(row.attempts, row.claimed_until) for row in bench.rows()] == [(0, None)]
        deliverer.start()
        assert soon(lambda: not bench.rows())
        first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


def test_two_deliverers_never_send_one_at_the_same_time(bench: Bench) -> None:
    with receiving(lambda connection: (gevent.sleep(0.005), connection.sendall(OK))) as receiver:
        for _ in range(2):
            bench.start(Sender([f"h{host}.internal" for host in range(5)], lookup=receiver.lookup()))
        for number in range(20):
            bench.end_run(f"http://h{number % 5}.internal:{receiver.port}/")
        assert soon(lambda: not bench.rows())
        ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert len(ids) == len(set(ids)) == 20


def test_a_delivery_whose_process_was_killed_is_sent_by_another_one(bench: Bench) -> None:
    sender = FakeSender()
    bench.end_run()
    killed = Outbox(bench.database, clock=bench.clock).claim()
    assert killed
    bench.start(sender)
    gevent.sleep(0.03)
    assert sender.sent == []
    bench.pass_time(CLAIM_S)
    assert soon(lambda: not bench.rows())
    assert sender.ids == [killed.id]


def test_a_delivery_that_kills_every_process_is_given_up(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    sender = FakeSender()
    bench.end_run()
    for _ in range(ATTEMPTS):
        assert Outbox(bench.database, clock=bench.clock).claim()
        bench.pass_time(CLAIM_S)
    bench.start(sender)
    assert soon(lambda: not bench.rows())
    assert sender.sent == []
    assert "given up" in caplog.text


def test_few_requests_are_sent_at_once_and_fewer_to_one_host(bench: Bench) -> None:
    with receiving(never) as receiver:
        hosts = [f"h{number}.internal" for number in range(SENDING_LIMIT)]
        bench.start(Sender(hosts, lookup=receiver.lookup()))
        for _ in range(SENDING_TO_HOST_LIMIT + 3):
            bench.end_run(f"http://{hosts[0]}:{receiver.port}/")
        assert soon(lambda: receiver.open == SENDING_TO_HOST_LIMIT)
        for host in hosts * 2:
            bench.end_run(f"http://{host}:{receiver.port}/")
        assert soon(lambda: receiver.open == SENDING_LIMIT)
        gevent.sleep(0.05)
        assert receiver.most_open == SENDING_LIMIT
        to_first = [request for request in receiver.requests if request.headers["Host"].startswith("h0.")]
        assert len(to_first) == SENDING_TO_HOST_LIMIT


def test_many_to_one_host_follow_each_other_without_a_pause(bench: Bench) -> None:
    sender = FakeSender()
    for _ in range(50):
        bench.end_run()
    bench.start(sender, look_s=1_000)
    assert soon(lambda: not bench.rows(), within_s=10)
    assert len(set(sender.ids)) == 50


def test_a_run_that_is_gone_is_told_to_nobody(bench: Bench) -> None:
    sender = FakeSender()
    bench.webhooks.pop(bench.end_run())
    bench.start(sender)
    assert soon(lambda: not bench.rows())
    assert sender.sent == []


def test_a_run_that_is_deleted_between_two_attempts_is_not_sent_again(bench: Bench) -> None:
    sender = FakeSender(lambda number, url: REFUSED)
    bench.start(sender)
    bench.end_run()
    assert soon(lambda: sender.sent and bench.is_settled())
    bench.database.write(lambda connection: connection.execute(delete(runs)))
    bench.pass_time(RETRY_AFTER_S[0])
    gevent.sleep(0.03)
    assert len(sender.sent) == 1


def test_a_payload_that_cannot_be_made_is_a_failed_attempt(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    def broken(run: Run, delivery: Delivery) -> bytes:
        raise RuntimeError("no payload")

    bench.start(FakeSender(), to_payload=broken)
    bench.end_run()
    assert soon(bench.is_settled)
    assert bench.rows()[0].due_at == bench.clock.now + 5 * SECOND
    assert "no payload" in caplog.text


def test_an_unavailable_store_stops_nothing_for_good(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Outbox):
        failures = 3

        def claim(self, *args: Any) -> Delivery | None:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("the session store cannot be used")
            return super().claim(*args)

    sender = FakeSender()
    bench.end_run()
    bench.start(sender, outbox=Failing(bench.database, clock=bench.clock))
    assert soon(lambda: not bench.rows())
    assert "the session store cannot be used" in caplog.text
