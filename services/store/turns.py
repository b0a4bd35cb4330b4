"""Statements about turns, each within a transaction of `SessionStore`.

A session is claimed by one conditional UPDATE, so only one of several servers gets it.
"""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import BigInteger, Connection, Double, Text, and_, bindparam, case, delete, func, insert, literal, select, update

from services.errors import Conflict
from services.store import documents
from services.store import leases as owners
from services.store.leases import Owner
from services.store.records import NewTurn, Turn, TurnEnd
from services.store.rows import dumped, from_turn, from_usage, storable, to_turn
from services.store.schema import USAGE, runs, session_tags, sessions, turns
from services.store.tokenizer import filter_terms, indexed_words
from services.usage import Usage

INTERRUPTED = "the server ended while this turn was running"

# Statements of every turn are built once: SQLAlchemy takes longer to build them (1.5 ms a turn) than SQLite to execute them.
END_TURN = update(turns).where(
    turns.c.session_id == bindparam("of_session"),
    turns.c.number == bindparam("of_number"),
    turns.c.status.in_(("running", "interrupted")),
)
IS_OURS = sessions.c.running_turn == bindparam("of_number")
"""False if this process was presumed dead and the session now runs another turn."""
CLI_ID, COST = bindparam("new_cli_id", type_=Text), bindparam("more_cost", type_=Double)
END_OF_SESSION = (
    update(sessions)
    .where(sessions.c.id == bindparam("of_session"))
    .values(
        updated_at=bindparam("now"),
        status=case((IS_OURS, bindparam("then_status")), else_=sessions.c.status),
        worker=case((IS_OURS, None), else_=sessions.c.worker),
        running_turn=case((IS_OURS, None), else_=sessions.c.running_turn),
        error=bindparam("new_error"),
        cost_usd=func.coalesce(sessions.c.cost_usd + COST, sessions.c.cost_usd, COST),
        model=func.coalesce(bindparam("new_model", type_=Text), sessions.c.model),
        cli_session_id=func.coalesce(CLI_ID, sessions.c.cli_session_id),
        needs_rebuild=case((CLI_ID.is_(None), sessions.c.needs_rebuild), else_=False),
        **{name: sessions.c[name] + bindparam(f"more_{name}", type_=BigInteger) for name in USAGE},
    )
    .returning(sessions.c.owner, sessions.c.backend, sessions.c.workdir, sessions.c.tags)
)
CLAIM = (
    update(sessions)
    .where(sessions.c.id == bindparam("of_session"))
    .values(
        status="running",
        worker=bindparam("new_worker"),
        running_turn=sessions.c.turn_count + 1,
        turn_count=sessions.c.turn_count + 1,
    )
    .returning(sessions.c.turn_count)
)
NO_TAGS = dumped(())
RETAG = update(session_tags).where(session_tags.c.session_id == bindparam("of_session")).values(updated_at=bindparam("now"))

AWAITING = (
    select(runs.c.id)
    .where(runs.c.session_id == bindparam("of_session"), runs.c.status == "queued", runs.c.id != bindparam("but", type_=Text))
    .limit(1)
)


def busy(session_id: str) -> Conflict:
    return Conflict(f"session {session_id} is already running a turn; wait for it to end", field="session_id", issue="session is running")


def is_free(connection: Connection, session_id: str) -> bool:
    """Whether the session exists and runs no turn. On PostgreSQL its row is locked until the transaction ends."""
    statement = select(sessions.c.id).where(sessions.c.id == session_id, sessions.c.status != "running")
    return connection.execute(statement.with_for_update()).first() is not None


def is_awaited(connection: Connection, session_id: str, *, but: str | None) -> bool:
    """Whether a run other than ``but`` waits in the queue to run a turn of the session."""
    return connection.execute(AWAITING, {"of_session": session_id, "but": but or ""}).first() is not None


def start(connection: Connection, session_id: str, new: NewTurn, owner: Owner, now: int) -> Turn:
    """Claim a free session and insert the running turn. `drop` must undo all of it, so nothing else is changed here."""
    owners.sign_in(connection, owner)
    number = connection.execute(CLAIM, {"of_session": session_id, "new_worker": owner.id}).scalar_one()
    return add_running(connection, session_id, number, new, now)


def add_running(connection: Connection, session_id: str, number: int, new: NewTurn, now: int) -> Turn:
    turn = Turn(
        session_id=session_id,
        number=number,
        status="running",
        prompt=storable(new.prompt),
        model=new.model,
        started_at=now,
        request_id=new.request_id,
    )
    connection.execute(insert(turns), from_turn(turn))
    return turn


def end(connection: Connection, turn: Turn, end: TurnEnd, now: int) -> None:
    """Store the end of a turn that has none yet, or that was marked interrupted but completed after all."""
    here = {"of_session": turn.session_id, "of_number": turn.number}
    row = from_turn(
        replace(
            turn,
            status=end.status,
            output=storable(end.output),
            model=end.model or turn.model,
            failure=end.failure,
            error=storable(end.error) if end.error else None,
            exit_code=end.exit_code,
            duration_ms=end.duration_ms,
            usage=end.usage,
            cost_usd=end.cost_usd,
        )
    )
    if not connection.execute(END_TURN, {**row, **here}).rowcount:
        return
    changes = {
        "now": now,
        "then_status": "failed" if end.status == "failed" else "idle",
        "new_error": row["error"] if end.status == "failed" else None,
        "new_model": end.model or None,
        "new_cli_id": end.cli_session_id or None,
        "more_cost": end.cost_usd,
        **{f"more_{name}": count for name, count in from_usage(end.usage or Usage()).items()},
    }
    session = connection.execute(END_OF_SESSION, {**changes, **here}).one()
    added = _describe(connection, turn.session_id, end) if end.title or end.tags or end.metadata else []
    if added or session.tags != NO_TAGS:
        _retag(connection, turn.session_id, session.owner, added, now)
    documents.add(
        connection, turn.session_id, indexed_words(turn.prompt, end.output), filter_terms(session.owner, session.backend, session.workdir)
    )


def _describe(connection: Connection, session_id: str, end: TurnEnd) -> list[str]:
    """Store the session metadata of the turn's request. Returns the new tags."""
    row = connection.execute(select(sessions).where(sessions.c.id == session_id)).one()
    held = json.loads(row.tags)
    added = [tag for tag in dict.fromkeys(map(storable, end.tags)) if tag not in held]
    changes = {"tags": dumped([*held, *added]), "metadata": dumped(json.loads(row.metadata) | dict(end.metadata))}
    if end.title:
        changes["title"] = storable(end.title)
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(changes))
    documents.add(connection, session_id, indexed_words(end.title, " ".join(end.tags)), filter_terms(row.owner, row.backend, row.workdir))
    return added


def drop(connection: Connection, turn: Turn) -> None:
    """Remove a running turn and release its session."""
    gone = connection.execute(
        delete(turns).where(turns.c.session_id == turn.session_id, turns.c.number == turn.number, turns.c.status == "running")
    )
    if gone.rowcount:
        held = and_(sessions.c.id == turn.session_id, sessions.c.running_turn == turn.number)
        status = case((sessions.c.error.is_(None), "idle"), else_="failed")
        free = {"status": status, "worker": None, "running_turn": None, "turn_count": turn.number - 1}
        connection.execute(update(sessions).where(held).values(free))


def read(connection: Connection, session_id: str, after: int, limit: int) -> tuple[Turn, ...]:
    statement = select(turns).where(turns.c.session_id == session_id, turns.c.number > after).order_by(turns.c.number).limit(limit)
    return tuple(map(to_turn, connection.execute(statement)))


def usage(connection: Connection, session_id: str) -> Usage:
    sums = [func.coalesce(func.sum(turns.c[name]), 0).label(name) for name in USAGE]
    row = connection.execute(select(*sums).where(turns.c.session_id == session_id)).one()
    return Usage(*map(int, row))


def copy(connection: Connection, source_id: str, target_id: str) -> None:
    """Copy the parent's turns to a fork with one statement."""
    names = [column.name for column in turns.c if column.name not in ("session_id", "is_inherited")]
    copied = select(literal(target_id), literal(True), *(turns.c[name] for name in names)).where(turns.c.session_id == source_id)
    connection.execute(insert(turns).from_select(["session_id", "is_inherited", *names], copied))


def worker_of(connection: Connection, session_id: str) -> str | None:
    return connection.execute(select(sessions.c.worker).where(sessions.c.id == session_id, sessions.c.status == "running")).scalar()


def workers_of_running(connection: Connection) -> set[str]:
    return set(connection.execute(select(sessions.c.worker).where(sessions.c.status == "running").distinct()).scalars()) - {None}


def interrupt(connection: Connection, dead: set[str], now: int) -> int:
    """Release the sessions of dead owners and mark their running turns. Returns the number of sessions."""
    held = and_(sessions.c.status == "running", sessions.c.worker.in_(dead))
    found = connection.execute(select(sessions.c.id, sessions.c.owner).where(held).with_for_update()).all()
    ids = [row.id for row in found]
    if not ids:
        return 0
    connection.execute(
        update(turns)
        .where(turns.c.session_id.in_(ids), turns.c.status == "running")
        .values(status="interrupted", failure="cancelled", error=INTERRUPTED)
    )
    free = {"status": "failed", "worker": None, "running_turn": None, "error": INTERRUPTED, "updated_at": now}
    connection.execute(update(sessions).where(sessions.c.id.in_(ids), held).values(free))
    for row in found:
        _retag(connection, row.id, row.owner, [], now)
    return len(ids)


def _retag(connection: Connection, session_id: str, owner: str, added: list[str], now: int) -> None:
    """Update `updated_at` of the session's tags, which must equal the session's, and insert the new tags."""
    connection.execute(RETAG, {"of_session": session_id, "now": now})
    if added:
        owned = {"session_id": session_id, "owner": owner, "updated_at": now}
        connection.execute(insert(session_tags), [{**owned, "tag": tag} for tag in dict.fromkeys(added)])
