"""Deliveries that are still to be made: rows of the store's database.

A delivery is claimed for a while before it is sent, so no two processes send it at the same time, and that of a killed process is
taken up again. The claim counts the attempt: a delivery that kills its process is not tried for ever.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from time import time_ns

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from services.runs.record import Webhook
from services.runs.webhooks.address import host_of
from services.runs.webhooks.delivery import Delivery
from services.runs.webhooks.event_types import wanted
from services.store.db import Database
from services.store.schema import webhook_deliveries

CLAIM_S = 60.0
"""How long a claimed delivery is left alone. Longer than an attempt takes."""

ID_PREFIX, ID_BYTES = "msg_", 12

row = webhook_deliveries.c

KEPT = ("id", "run_id", "webhook", "host", "type", "created_at")
"""What an attempt does not change."""


def now_us() -> int:
    return time_ns() // 1_000


def add(connection: Connection, run_id: str, webhooks: Sequence[Webhook], type: str, at: int) -> None:
    """Insert the deliveries of an event that happened at ``at``, to those of the run's webhooks that want its type. Due at once.

    Belongs in the transaction that stores what the event tells.
    """
    event = {"run_id": run_id, "type": type, "created_at": at, "due_at": at, "attempts": 0}
    for number, webhook in enumerate(webhooks):
        if wanted(webhook, type):
            id = ID_PREFIX + secrets.token_hex(ID_BYTES)
            connection.execute(insert(webhook_deliveries), {"id": id, "webhook": number, "host": host_of(webhook.url), **event})


class Outbox:
    """Every method is one short transaction, and raises StoreUnavailable."""

    def __init__(self, database: Database, *, clock: Callable[[], int] = now_us, claim_s: float = CLAIM_S) -> None:
        """``clock``: microseconds since the epoch."""
        self._database = database
        self._clock = clock
        self._claim_us = int(claim_s * 1e6)

    def claim(self, busy_hosts: Collection[str] = ()) -> Delivery | None:
        """The delivery that has been due longest, to a host that is not among ``busy_hosts``; None if there is none."""
        now = self._clock()
        free = or_(row.claimed_until.is_(None), row.claimed_until <= now)
        chosen = select(webhook_deliveries).where(row.due_at <= now, free, *_not_to(row.host, busy_hosts))
        # Without SKIP LOCKED the second of two processes on PostgreSQL would wait for the first, and then get nothing.
        chosen = chosen.order_by(row.due_at, row.id).limit(1).with_for_update(skip_locked=True)

        def work(connection: Connection) -> Delivery | None:
            if (found := connection.execute(chosen).first()) is None:
                return None
            claimed = {"attempts": found.attempts + 1, "claimed_until": now + self._claim_us}
            connection.execute(update(webhook_deliveries).where(row.id == found.id).values(claimed))
            facts = {name: found._mapping[name] for name in KEPT}
            return Delivery(**facts, **claimed)

        return self._database.write(work)

    def next_due_s(self, busy_hosts: Collection[str] = ()) -> float | None:
        """Seconds until the next unclaimed delivery is due; None if there is none."""
        with self._database.reading() as connection:
            due = connection.execute(select(func.min(row.due_at)).where(row.claimed_until.is_(None), *_not_to(row.host, busy_hosts)))
            due_at = due.scalar()
        return None if due_at is None else max(0.0, (due_at - self._clock()) / 1e6)

    def remove(self, delivery: Delivery) -> None:
        """It was accepted, was given up, or its run is gone."""
        self._database.write(lambda connection: connection.execute(delete(webhook_deliveries).where(row.id == delivery.id)))

    def retry(self, delivery: Delivery, after_s: float) -> None:
        """Make it due again. Does nothing if the claim ran out and another process took the delivery."""
        self._free(delivery, due_at=self._clock() + int(after_s * 1e6))

    def give_back(self, delivery: Delivery) -> None:
        """It was not sent, or not to the end: any process may take it at once, and the attempt does not count."""
        self._free(delivery, attempts=delivery.attempts - 1)

    def _free(self, delivery: Delivery, **values: int) -> None:
        ours = update(webhook_deliveries).where(row.id == delivery.id, row.claimed_until == delivery.claimed_until)
        self._database.write(lambda connection: connection.execute(ours.values(claimed_until=None, **values)))


def _not_to(host: ColumnElement[str], busy: Collection[str]) -> list[ColumnElement[bool]]:
    return [host.not_in(sorted(busy))] if busy else []
