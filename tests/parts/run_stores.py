"""What one process has for runs: the session store, the run store and the event log on one database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import URL

from services.runs.log import EventLog
from services.runs.record import Chunk, NewRun, Run, RunEnd, new_run_id
from services.runs.store import RunStore
from services.store.leases import LEASE_S
from services.store.schema import owners, webhook_deliveries
from services.store.sessions import SessionStore


@dataclass(frozen=True)
class RunDesk:
    sessions: SessionStore
    runs: RunStore
    log: EventLog

    @property
    def id(self) -> str:
        return self.sessions.us().id

    def add(self, *, max_waiting: int = 10_000, max_waiting_per_owner: int = 1_000, **more: Any) -> Run:
        run, is_new = self.runs.add(new_run(**more), max_waiting=max_waiting, max_waiting_per_owner=max_waiting_per_owner)
        assert is_new
        return run

    def claim(self, *backends: str) -> Run:
        run = self.runs.claim(backends)
        assert run
        return run

    def start(self, **more: Any) -> Run:
        """A run that this process executes."""
        self.add(**more)
        return self.claim("claude")

    def write(self, run_id: str, *chunks: Chunk) -> None:
        for chunk in chunks:
            self.log.append(run_id, chunk)
        self.log.flush(run_id)

    def finish(self, run_id: str, number: int, **more: Any) -> bool:
        """Store an end with the terminal event ``number``, and tell the readers."""
        done = self.runs.end(run_id, end(number, **more))
        self.log.close(run_id)
        return done

    def deliveries(self) -> list[tuple[str, str]]:
        """(run, type) of the webhooks to be sent."""
        wanted = select(webhook_deliveries.c.run_id, webhook_deliveries.c.type).order_by(webhook_deliveries.c.created_at)
        with self.sessions.database.reading() as connection:
            return [(row.run_id, row.type) for row in connection.execute(wanted)]

    def seem_dead(self) -> None:
        """To other processes, as if this one were on another machine and had not been seen since its lease ended."""
        mine = owners.c.id == self.id
        change = update(owners).where(mine).values(place="elsewhere", seen_at=owners.c.seen_at - LEASE_S - 1)
        self.sessions.database.write(lambda connection: connection.execute(change))

    def close(self) -> None:
        self.sessions.close()


def open_desk(url: URL, **options: Any) -> RunDesk:
    """``options`` go to the event log."""
    store = SessionStore(url)
    store.open()
    return RunDesk(store, RunStore(store.database, store.us), EventLog(store.database, store.us, **options))


def new_run(**more: Any) -> NewRun:
    given = {"id": new_run_id(), "kind": "prompt", "owner": "anna", "is_background": True, "request_id": "req", "request": b"{}"}
    return NewRun(**given | more)


def frames(first: int, count: int = 1, text: str = "event") -> Chunk:
    data = b"".join(f"id: {number}\ndata: {text} {number}\n\n".encode() for number in range(first, first + count))
    return Chunk(first, count, data)


def end(number: int, **more: Any) -> RunEnd:
    return RunEnd(**{"status": "completed", "terminal": frames(number, text="done")} | more)


def terminal_of(run: Run, number: int) -> Chunk:
    assert run.error
    return frames(number, text=run.error.code)


def restarted_of(run: Run, number: int) -> Chunk:
    return frames(number, text=f"restarted {run.attempt + 1}")
