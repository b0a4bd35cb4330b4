"""The queue of background runs: statements about runs that wait, each within a transaction of `RunStore`.

Owners take turns by start-time fair queueing (Goyal, Vin and Cheng, 1996): a run gets its turn, a number, when it is submitted, and the
least turn is served first. A turn is one step of ``1 / weight`` after the owner's previous unfinished run, and not before the turn
that is being served now: a late owner is served next however many runs the others have waiting, and does not catch up on the time
when it submitted nothing. Nothing is recomputed when a run is claimed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, Row, Text, bindparam, case, func, or_, select, tuple_, update

from services.errors import QueueFull, RateLimited
from services.runs.record import LIVE, NewRun
from services.runs.rows import WHOLE
from services.store.schema import runs

RETRY_AFTER_S = 30.0

ORDER = (runs.c.priority, runs.c.turn, runs.c.created_at, runs.c.id)
"""The order of service. Equal turns: the older run."""

QUEUED = runs.c.status == "queued"
COUNT = select(func.count()).select_from(runs).where(QUEUED)
IS_OWN = runs.c.owner == bindparam("of_owner")
IN_PRIORITY = runs.c.priority == bindparam("in_priority")

# One statement: SQLAlchemy takes longer for five than the database. Each turn is one step into an index.
STATE = select(
    select(func.count()).where(QUEUED).scalar_subquery().label("length"),
    select(func.count()).where(QUEUED, IS_OWN).scalar_subquery().label("own_length"),
    select(func.min(runs.c.turn)).where(QUEUED, IN_PRIORITY).scalar_subquery().label("next_turn"),
    *(
        select(func.max(runs.c.turn)).where(runs.c.status == status, IN_PRIORITY).scalar_subquery().label(f"served_{status}")
        for status in LIVE
    ),
    *(
        select(func.max(runs.c.turn)).where(runs.c.status == status, IS_OWN, IN_PRIORITY).scalar_subquery().label(f"own_{status}")
        for status in ("queued", *LIVE)
    ),
)

NEXT = (
    select(runs.c.id)
    .where(QUEUED, or_(runs.c.backend.is_(None), runs.c.backend.in_(bindparam("backends", expanding=True, type_=Text))))
    .order_by(*ORDER)
    .limit(1)
    .with_for_update(skip_locked=True)
)
CLAIM = (
    update(runs)
    .where(runs.c.id == bindparam("of_run"), QUEUED)
    .values(
        status="running",
        worker=bindparam("new_worker"),
        started_at=bindparam("now"),
        attempt=case((runs.c.started_at.is_(None), runs.c.attempt), else_=runs.c.attempt + 1),
    )
    .returning(*WHOLE)
)
BEFORE = (
    select(func.count())
    .where(QUEUED, tuple_(*ORDER) <= tuple_(*(bindparam(f"its_{column.name}", type_=column.type) for column in ORDER)))
    .select_from(runs)
)


def next_turn(connection: Connection, new: NewRun, *, max_waiting: int, max_waiting_per_owner: int) -> float:
    """The turn of a run that joins the queue. Raises RateLimited if its owner's share is full, QueueFull if the whole queue is."""
    state = connection.execute(STATE, {"of_owner": new.owner, "in_priority": new.priority}).one()
    if state.own_length >= max_waiting_per_owner:
        message = f"{state.own_length} of your runs are waiting, which is the limit; wait until one of them starts"
        raise RateLimited(message, retry_after_s=RETRY_AFTER_S)
    if state.length >= max_waiting:
        raise QueueFull(f"{state.length} runs are waiting, which is the limit of this server", retry_after_s=RETRY_AFTER_S)
    own = _largest(state, "own_queued", *(f"own_{status}" for status in LIVE))
    in_service = _turn_in_service(state)
    return in_service if own is None else max(in_service, own + 1 / new.weight)


def claim(connection: Connection, backends: Collection[str], worker: str, now: int) -> Row[Any] | None:
    """The run that is next among those that need no backend or one of ``backends``, now running."""
    run_id = connection.execute(NEXT, {"backends": list(backends)}).scalar()
    if run_id is None:
        return None
    return connection.execute(CLAIM, {"of_run": run_id, "new_worker": worker, "now": now}).one()


def position(connection: Connection, row: Row[Any]) -> int | None:
    """The place of one run in the queue, from 1. ``row`` has the columns of `ORDER` and the status."""
    if row.status != "queued":
        return None
    return connection.execute(BEFORE, {f"its_{column.name}": row._mapping[column.name] for column in ORDER}).scalar_one()


def positions(connection: Connection, run_ids: Collection[str]) -> dict[str, int]:
    """The places of those of ``run_ids`` that wait, in one pass over the queue."""
    if not run_ids:
        return {}
    places = select(runs.c.id, func.row_number().over(order_by=ORDER).label("place")).where(QUEUED).subquery()
    rows = connection.execute(select(places.c.id, places.c.place).where(places.c.id.in_(run_ids)))
    return {row.id: row.place for row in rows}


def _turn_in_service(state: Row[Any]) -> float:
    """The largest turn that runs now, or the least that waits if that is less: a worker passes over runs whose backend it lacks, and
    whoever submits such a run must not queue behind those that went ahead."""
    served = _largest(state, *(f"served_{status}" for status in LIVE))
    turns = [turn for turn in (served, state.next_turn) if turn is not None]
    return min(turns, default=0.0)


def _largest(state: Row[Any], *names: str) -> float | None:
    return max((value for name in names if (value := state._mapping[name]) is not None), default=None)
