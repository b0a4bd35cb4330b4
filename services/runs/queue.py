"""The queue of background runs: statements about runs that wait, each within a transaction of `RunStore`.

Owners take turns by start-time fair queueing (Goyal, Vin and Cheng, 1996): a run gets its turn, a number, when it is submitted, and the
least turn is served first. A turn is one step of ``1 / weight`` after the owner's previous unfinished run, and not before the turn
that is being served now: a late owner is served next however many runs the others have waiting, and does not catch up on the time
when it submitted nothing. Nothing is recomputed when a run is claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Text, bindparam, case, func, literal_column, or_, select, tuple_, update

from services.errors import QueueFull, RateLimited
from services.runs.record import LIVE, NewRun
from services.runs.rows import WHOLE
from services.store.schema import runs

RETRY_AFTER_S = 30.0

PassedOver = Callable[[Connection], Collection[str]]

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
    select(func.max(runs.c.priority)).where(QUEUED).scalar_subquery().label("last_priority"),
    select(func.min(runs.c.turn)).where(QUEUED, IN_PRIORITY).scalar_subquery().label("next_turn"),
    select(func.max(runs.c.turn)).where(QUEUED, IN_PRIORITY).scalar_subquery().label("last_turn"),
    *(
        select(func.max(runs.c.turn)).where(runs.c.status == status, IN_PRIORITY).scalar_subquery().label(f"served_{status}")
        for status in LIVE
    ),
    *(
        select(func.max(runs.c.turn)).where(runs.c.status == status, IS_OWN, IN_PRIORITY).scalar_subquery().label(f"own_{status}")
        for status in ("queued", *LIVE)
    ),
)

# Whether any run waits for one of the backends, from the index `runs_by_backend`, which has the condition as a literal: `NEXT` reads
# past all runs that wait for others.
IS_WAITING = runs.c.status == literal_column("'queued'")
ANY_WAITS = select(
    or_(
        select(runs.c.backend).where(IS_WAITING, runs.c.backend.is_(None)).exists(),
        select(runs.c.backend).where(IS_WAITING, runs.c.backend.in_(bindparam("backends", expanding=True, type_=Text))).exists(),
    )
)
NEXT = (
    select(runs.c.id)
    .where(
        QUEUED,
        or_(runs.c.backend.is_(None), runs.c.backend.in_(bindparam("backends", expanding=True, type_=Text))),
        runs.c.owner.not_in(bindparam("passed_over", expanding=True, type_=Text)),
    )
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
ITS = {column.name: bindparam(f"its_{column.name}", type_=column.type) for column in ORDER}
# Three ranges of the index: SQLite takes more than twice as long to compare whole tuples.
PLACE = select(
    sum(
        (
            select(func.count()).where(QUEUED, *before).select_from(runs).scalar_subquery()
            for before in (
                (runs.c.priority == ITS["priority"], runs.c.turn < ITS["turn"]),
                (
                    runs.c.priority == ITS["priority"],
                    runs.c.turn == ITS["turn"],
                    tuple_(runs.c.created_at, runs.c.id) <= tuple_(ITS["created_at"], ITS["id"]),
                ),
            )
        ),
        start=select(func.count()).where(QUEUED, runs.c.priority < ITS["priority"]).select_from(runs).scalar_subquery(),
    )
)
BETWEEN = (
    select(runs.c.id)
    .where(
        QUEUED,
        tuple_(*ORDER) > tuple_(*ITS.values()),
        tuple_(*ORDER) <= tuple_(*(bindparam(f"last_{column.name}", type_=column.type) for column in ORDER)),
    )
    .order_by(*ORDER)
)


def next_turn(connection: Connection, new: NewRun, *, max_waiting: int, max_waiting_per_owner: int) -> tuple[float, int | None]:
    """The turn of a run that joins the queue, and its place if that is the last one.

    Raises RateLimited if its owner's share is full, QueueFull if the whole queue is.
    """
    state = connection.execute(STATE, {"of_owner": new.owner, "in_priority": new.priority}).one()
    if state.own_length >= max_waiting_per_owner:
        message = f"{state.own_length} of your runs are waiting, which is the limit; wait until one of them starts"
        raise RateLimited(message, retry_after_s=RETRY_AFTER_S)
    if state.length >= max_waiting:
        raise QueueFull(f"{state.length} runs are waiting, which is the limit of this server", retry_after_s=RETRY_AFTER_S)
    own = _largest(state, "own_queued", *(f"own_{status}" for status in LIVE))
    in_service = _turn_in_service(state)
    turn = in_service if own is None else max(in_service, own + 1 / new.weight)
    is_last = (state.last_priority or 0, state.last_turn or 0.0) <= (new.priority, turn)
    return turn, state.length + 1 if is_last else None


def claim(connection: Connection, backends: Collection[str], worker: str, now: int, passed_over: PassedOver) -> Row[Any] | None:
    """The run that is next among those that need no backend or one of ``backends``, now running. ``passed_over``: the owners whose runs
    stay in the queue; asked only where runs wait."""
    if not connection.execute(ANY_WAITS, {"backends": list(backends)}).scalar():
        return None
    run_id = connection.execute(NEXT, {"backends": list(backends), "passed_over": list(passed_over(connection))}).scalar()
    if run_id is None:
        return None
    return connection.execute(CLAIM, {"of_run": run_id, "new_worker": worker, "now": now}).one()


def position(connection: Connection, row: Row[Any]) -> int | None:
    """The place of one run in the queue, from 1. ``row`` has the columns of `ORDER` and the status."""
    if row.status != "queued":
        return None
    place: int = connection.execute(PLACE, _bounds(its=row)).scalar_one()
    return place


def positions(connection: Connection, rows: Sequence[Row[Any]]) -> dict[str, int]:
    """The places of those of ``rows`` that wait: the first of them is counted, then the queue is read as far as the last one."""
    waiting = sorted((row for row in rows if row.status == "queued"), key=lambda row: tuple(row._mapping[column.name] for column in ORDER))
    if not waiting:
        return {}
    first, last = waiting[0], waiting[-1]
    place = connection.execute(PLACE, _bounds(its=first)).scalar_one()
    between = connection.execute(BETWEEN, _bounds(its=first, last=last)).scalars() if len(waiting) > 1 else ()
    return {first.id: place} | {run_id: place + steps for steps, run_id in enumerate(between, 1)}


def _bounds(**rows: Row[Any]) -> dict[str, Any]:
    return {f"{name}_{column.name}": row._mapping[column.name] for name, row in rows.items() for column in ORDER}


def _turn_in_service(state: Row[Any]) -> float:
    """The largest turn that runs now, or the least that waits if that is less: a worker passes over runs whose backend it lacks, and
    whoever submits such a run must not queue behind those that went ahead."""
    served = _largest(state, *(f"served_{status}" for status in LIVE))
    turns = [turn for turn in (served, state.next_turn) if turn is not None]
    return min(turns, default=0.0)


def _largest(state: Row[Any], *names: str) -> float | None:
    return max((value for name in names if (value := state._mapping[name]) is not None), default=None)
