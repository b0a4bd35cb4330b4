"""Statements about the slots of keys, each within a transaction."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, ScalarSelect, bindparam, delete, exists, func, insert, or_, select, text, update

from services.runs.record import LIVE
from services.store import leases
from services.store.schema import runs, slots

PRECEDENCE_US = 1_000_000
"""By how much longer a run of another process must have waited to go first. Its process looks for a free slot only now and then, so an
exact order would leave slots unused in between."""

IS_OWN = slots.c.owner == bindparam("of_owner")
HOLDS = slots.c.waiting_since.is_(None)
IS_BEFORE = or_(HOLDS, slots.c.waiting_since < bindparam("before"))


def _count(*conditions: object) -> ScalarSelect[int]:
    return select(func.count()).select_from(slots).where(IS_OWN, *conditions).scalar_subquery()  # type: ignore[arg-type]


BEFORE = _count(IS_BEFORE)
"""How many have a slot of the owner, or have waited for one since before ``before``."""
WAITING = _count(slots.c.waiting_since.is_not(None))
COUNTED = _count(HOLDS, slots.c.counts_as_run)
"""The runs in progress that budgets count, so far without an entry in the ledger."""

COUNT_BEFORE = select(BEFORE)
ADD = insert(slots)
HOLD = update(slots).where(slots.c.id == bindparam("of_slot")).values(waiting_since=None)
WORKERS = select(slots.c.worker).where(IS_OWN).distinct()
ALL_WORKERS = select(slots.c.worker).distinct()

LOCK = text("SELECT pg_advisory_xact_lock(hashtext(:owner))")
"""PostgreSQL alone: on SQLite there is one writer."""


@dataclass(slots=True, kw_only=True)
class Ticket:
    """One run's claim to a slot of its key."""

    id: str
    owner: str
    run_id: str
    counts_as_run: bool
    since: int
    """When it came, in microseconds since the epoch; 0 for one that goes before all others."""

    @property
    def before(self) -> int:
        """Runs that wait since before that go first, wherever they wait."""
        return self.since - PRECEDENCE_US

    is_in_line: bool = False
    """Whether its row says that it waits."""
    has_waited: bool = False


def new_id() -> str:
    return secrets.token_hex(12)


def lock(connection: Connection, owner: str) -> None:
    """Until the end of the transaction no other one gives a slot of ``owner``."""
    if connection.dialect.name == "postgresql":
        connection.execute(LOCK, {"owner": owner})


def add(connection: Connection, ticket: Ticket, worker: str, *, waits: bool) -> None:
    row = {"id": ticket.id, "owner": ticket.owner, "worker": worker, "run_id": ticket.run_id, "counts_as_run": ticket.counts_as_run}
    connection.execute(ADD, {**row, "waiting_since": ticket.since if waits else None})


def hold(connection: Connection, ticket: Ticket) -> None:
    """The run that waited has its slot."""
    connection.execute(HOLD, {"of_slot": ticket.id})


def remove(connection: Connection, ids: Collection[str]) -> None:
    connection.execute(delete(slots).where(slots.c.id.in_(ids)))


def count_before(connection: Connection, ticket: Ticket) -> int:
    return connection.execute(COUNT_BEFORE, {"of_owner": ticket.owner, "before": ticket.before}).scalar_one()


def dead_workers(connection: Connection, us: leases.Owner, owner: str | None = None) -> set[str]:
    """The dead processes that have slots, of ``owner`` or of anybody."""
    found = connection.execute(ALL_WORKERS if owner is None else WORKERS, {} if owner is None else {"of_owner": owner})
    others = set(found.scalars()) - {us.id}
    return leases.dead_among(connection, others, us) if others else set()


def bury(connection: Connection, dead: Collection[str]) -> int:
    """Remove the slots of dead processes. Returns their number."""
    return connection.execute(delete(slots).where(slots.c.worker.in_(dead))).rowcount


def occupied(connection: Connection, owners: Collection[str]) -> Mapping[str, int]:
    """How many runs of each of ``owners`` go on: those with a slot, and background runs that were claimed and are about to take theirs."""
    held = select(slots.c.owner).where(slots.c.owner.in_(owners), HOLDS)
    has_slot = exists().where(slots.c.run_id == runs.c.id, slots.c.owner == runs.c.owner, HOLDS)
    claimed = select(runs.c.owner).where(runs.c.owner.in_(owners), runs.c.status.in_(LIVE), runs.c.is_background, ~has_slot)
    everyone = held.union_all(claimed).subquery()
    counted = select(everyone.c.owner, func.count().label("runs")).group_by(everyone.c.owner)
    return {row.owner: row.runs for row in connection.execute(counted)}
