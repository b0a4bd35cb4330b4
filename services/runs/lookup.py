"""Finds runs wherever they are: in the store, or in the memory of a serving process of this machine while they go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from services.access.scope import Scope
from services.errors import Conflict, NotFound
from services.requests import PassedOver
from services.runs.live import LiveRuns
from services.runs.log import EventLog
from services.runs.pages import ORDER_NAME, ORDER_TYPES
from services.runs.peers import Handler, Peers
from services.runs.performer import ToTerminal
from services.runs.record import Run, RunFilter, RunPage
from services.runs.store import CANCELLED, REVOKED, RunStore
from services.store import cursors


class RunLookup:
    """One per process. A run outside the scope of a lookup is an unknown one."""

    def __init__(self, store: RunStore, events: EventLog, live: LiveRuns, peers: Peers, to_terminal: ToTerminal) -> None:
        self._store = store
        self._events = events
        self._live = live
        self._peers = peers
        self._to_terminal = to_terminal

    def get(self, id: str, scope: Scope) -> Run:
        """Raises NotFound."""
        try:
            run = self._store.get(id, scope)
        except NotFound:
            for found in self._in_memory():
                if found.id == id and scope.includes(found.owner):
                    return found
            raise
        return _behind(run, _count_queued(self._in_memory())) if run.position else run

    def cancel(self, id: str, scope: Scope) -> Run:
        """Cancel a run, whichever process it is in. One that is executed is stopped soon. Raises NotFound."""
        try:
            run = self._store.cancel(id, scope, lambda run, number: self._to_terminal(run, number, CANCELLED))
        except NotFound:
            run = self.get(id, scope)
        self._events.notify(id)
        if run.ended_at is None and not self._cancel_own(id):
            self._peers.tell("cancel", id=id)
        return run

    def end_queued_of(self, owner: str) -> None:
        """Cancel the queued runs of an owner whose key is no longer in force. Running ones continue."""
        for id in self._store.end_queued_of(owner, lambda run, number: self._to_terminal(run, number, REVOKED)):
            self._events.notify(id)

    def cancel_alias(self, alias: str, owner: str) -> None:
        """Cancel the owner's runs of that alias, whichever process of this machine they are in. Nothing happens where there is none."""
        if not self._cancel_own_alias(alias, owner):
            self._peers.tell("cancel_alias", alias=alias, owner=owner)

    def delete(self, id: str, scope: Scope) -> None:
        """Raises NotFound, or Conflict while the run goes on."""
        try:
            self._store.delete(id, scope)
        except NotFound:
            run = self.get(id, scope)
            raise Conflict(f"run {id} has not ended; cancel it first", field="run_id", issue=f"run is {run.status}") from None

    def handlers(self) -> Mapping[str, Handler]:
        """The requests of other processes, by name."""
        return {"list": lambda: [_to_peer(run) for run in self._own()], "cancel": self._cancel_own, "cancel_alias": self._cancel_own_alias}

    def _in_memory(self) -> list[Run]:
        """The runs of all processes that are not stored. Those that wait have their places, in the order of their arrival."""
        found = [*self._own(), *(_from_peer(run) for answer in self._peers.ask("list") for run in answer)]
        found.sort(key=_place)
        places = iter(range(1, len(found) + 1))
        return [replace(run, position=next(places)) if run.status == "queued" else run for run in found]

    def _own(self) -> Iterator[Run]:
        return (run.to_run() for run in self._live if not run.is_stored)

    def _cancel_own(self, id: str) -> bool:
        run = self._live.get(id)
        if run:
            run.cancel()
        return run is not None

    def _cancel_own_alias(self, alias: str, owner: str) -> bool:
        found = [run for run in self._live if run.alias == alias and run.owner == owner]
        for run in found:
            run.cancel()
        return bool(found)

    def list(self, wanted: RunFilter, scope: Scope, *, limit: int, cursor: str | None) -> RunPage:
        """A page, newest first. Raises InvalidRequest for an invalid cursor."""
        before = tuple(cursors.decode(cursor, ORDER_NAME, ORDER_TYPES)) if cursor else None
        in_memory = self._in_memory()
        page = self._store.list(wanted, scope, limit=limit, cursor=cursor)
        ahead = _count_queued(in_memory)
        found = [_behind(run, ahead) for run in page.runs]
        own = (run for run in in_memory if scope.includes(run.owner) and _matches(run, wanted))
        found += [run for run in own if before is None or _place(run) < before]
        found.sort(key=_place, reverse=True)
        has_more = page.next_cursor is not None or len(found) > limit
        return RunPage(tuple(found[:limit]), cursors.encode(ORDER_NAME, *_place(found[limit - 1])) if has_more else None)


def _matches(run: Run, wanted: RunFilter) -> bool:
    filters = ((wanted.owner, run.owner), (wanted.status, run.status), (wanted.kind, run.kind), (wanted.session_id, run.session_id))
    return all(value is None or value == own for value, own in filters)


def _place(run: Run) -> tuple[int, str]:
    return run.created_at, run.id


def _count_queued(runs: Iterable[Run]) -> int:
    return sum(run.status == "queued" for run in runs)


def _behind(run: Run, ahead: int) -> Run:
    """A stored run's place behind ``ahead`` foreground runs, which go first."""
    return replace(run, position=run.position + ahead) if run.position and ahead else run


def _to_peer(run: Run) -> dict[str, Any]:
    return {name: value for name, value in asdict(run).items() if value and not isinstance(value, bytes)}


def _from_peer(run: dict[str, Any]) -> Run:
    passed_over = tuple(PassedOver(*one) for one in run.get("passed_over", ()))
    return Run(**{"is_background": False, **run, "tags": tuple(run.get("tags", ())), "passed_over": passed_over})
