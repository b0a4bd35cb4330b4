"""The limits of keys in one process: a run of a limited key needs the server's slot and its key's, which all processes share.

A run that waits for its key holds no slot of the server. It has a place in the line of its process, and a row that tells the other
processes since when it waits: a run that has waited longer than others is next, wherever it waits.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from threading import Lock
from time import monotonic, time_ns
from typing import Any

from gevent.event import Event
from sqlalchemy import Connection, Select, select

from services.access.access import Access
from services.access.rights import Budget, Rights
from services.admission import AdmissionControl, Slot
from services.cancellation import Cancellation
from services.clis.spec import Invocation
from services.errors import BudgetExceeded, RateLimited, RightMissing, RunFailed, StoreUnavailable
from services.events import Failed, Finished
from services.ledger.entry import Entry
from services.ledger.ledger import Ledger
from services.ledger.prices import Prices
from services.quotas import budgets, slots
from services.quotas.settling import priced, to_entry
from services.quotas.slots import Ticket
from services.requests import RunRequest
from services.store import leases
from services.store.db import Database
from services.telemetry import RunTelemetry

log = logging.getLogger("clinvk.usage")

POLL_S = 0.25
"""How often the first in line looks whether a run of another process has ended."""
RETRY_AFTER_S = 10.0


class _Waiter:
    def __init__(self) -> None:
        self.changed = Event()


class Quotas:
    """One per process. ``clock``: the time in microseconds since the epoch."""

    def __init__(
        self,
        database: Database,
        us: Callable[[], leases.Owner],
        access: Access,
        ledger: Ledger,
        prices: Prices,
        admission: AdmissionControl,
        *,
        clock: Callable[[], int] = lambda: time_ns() // 1000,
    ) -> None:
        self._database = database
        self._us = us
        self._access = access
        self._ledger = ledger
        self.prices = prices
        self._admission = admission
        self._clock = clock
        self._lines: dict[str, deque[_Waiter]] = {}
        self._signed_in = ""
        self._taking: defaultdict[str, Lock] = defaultdict(Lock)
        """By owner. Those that try at the same moment would else each hold a connection to the database and wait for each other there."""

    def check(self, invocation: Invocation) -> None:
        """Raises RightMissing if the cost of the run could not be counted against the key's budget in US dollars."""
        budgets_of_key = self._access.rights_of(invocation.request.owner).budgets
        if not budgets_of_key or invocation.spec.reports_cost or not any(budget.unit == "usd" for budget in budgets_of_key):
            return
        backend, model = invocation.spec.name, invocation.model
        if self.prices.find(backend, model) is None:
            named = f"{backend}/{model}" if model else f"{backend} without a model"
            raise RightMissing(
                f"this API key has a budget in US dollars, and what a run of {named} costs is not known: "
                "use another model, or add its price to `prices` of the configuration",
                right="budget",
                value=named,
            )

    def admit(self, request: RunRequest, cancellation: Cancellation) -> tuple[Slot, str | None]:
        """Wait for a slot of the server and, where the key is limited, for one of the key: its id.

        Raises KeyRevoked, BudgetExceeded, RateLimited where too many runs of the key wait or one has waited for too long, QueueFull, and
        RunFailed when cancelled meanwhile.
        """
        if not _is_limited(self._access.rights_of(request.owner)):
            return self._acquire(request, cancellation), None
        ticket = Ticket(
            id=slots.new_id(),
            owner=request.owner,
            run_id=request.run_id,
            counts_as_run=not request.is_fallback,
            since=0 if request.is_fallback else self._clock(),
        )
        try:
            while True:
                slot = self._acquire(request, cancellation)
                if self._take(ticket, request, slot):
                    return slot, ticket.id
                self._wait(ticket, request, cancellation)
                if not self._admission.room(request.backend):  # the key's other runs need not wait for the server with it
                    self._leave(ticket)
        except BaseException:
            self._leave(ticket)
            raise

    def settle(self, run: RunTelemetry, end: Finished | Failed, slot: str | None) -> Finished | Failed:
        """The end of a run with its cost. Puts it into the ledger, for a limited key before its slot is free again. Raises nothing."""
        end = priced(run, end, self.prices)
        entry = to_entry(run, end, self._clock())
        if slot is None:
            self._ledger.add(entry)
        else:
            self._give_back(entry, slot, entry.owner)
        return end

    def give_back(self, request: RunRequest, slot: str | None) -> None:
        """Of a run that could not be started."""
        if slot is not None:
            self._give_back(None, slot, request.owner)

    def _give_back(self, entry: Entry | None, slot: str, owner: str) -> None:
        self._ledger.add(entry, slot)
        try:
            self._ledger.flush()
        except StoreUnavailable as error:  # until it is stored, the run counts as one in progress
            log.warning("a slot of %s is given back later: %s", owner, error.message)
        if line := self._lines.get(owner):
            line[0].changed.set()

    def tidy(self) -> None:
        """Remove the slots of dead processes."""
        self._bury(None)

    def at_limit(self, connection: Connection) -> list[str]:
        """The keys of which no further run can start now."""
        limits = {owner: most for owner, rights in self._access.keys.items() if (most := rights.max_concurrent_runs) is not None}
        counts = slots.occupied(connection, limits) if limits else {}
        return [owner for owner, count in counts.items() if count >= limits[owner]]

    def share_of(self, owner: str, most: int) -> Callable[[Connection], int]:
        """How many background runs of ``owner`` may be in the queue; ``most`` where the key sets nothing."""
        rights = self._access.rights_of(owner)
        waiting, at_a_time = rights.max_waiting_runs, rights.max_concurrent_runs
        if waiting is None:
            return lambda connection: most
        if at_a_time is None:
            return lambda connection: max(1, waiting)
        return lambda connection: waiting + max(0, at_a_time - slots.occupied(connection, [owner]).get(owner, 0))

    def _acquire(self, request: RunRequest, cancellation: Cancellation) -> Slot:
        return self._admission.acquire(request.backend, request.caller, cancellation, is_background=request.is_background)

    def _take(self, ticket: Ticket, request: RunRequest, slot: Slot) -> bool:
        """Whether the key had a slot for the run that has one of the server. If not, that one is free again."""
        try:
            rights = self._access.rights_of(ticket.owner)
            us = self._us_signed_in()
            with self._taking[ticket.owner]:
                is_taken = self._database.write(lambda connection: self._try(connection, ticket, rights, request, us))
        except BaseException:
            slot.release()
            raise
        ticket.is_in_line = not is_taken
        if not is_taken:
            ticket.has_waited = True
            slot.release()
        return is_taken

    def _try(self, connection: Connection, ticket: Ticket, rights: Rights, request: RunRequest, us: leases.Owner) -> bool:
        now = datetime.fromtimestamp(self._clock() / 1e6, UTC)
        at_a_time = rights.max_concurrent_runs

        def look() -> tuple[BudgetExceeded | None, bool, int]:
            before, waiting, counted, *sums = connection.execute(_state(rights.budgets), _values(ticket, rights.budgets, now)).one()
            exceeded = budgets.exceeded(rights.budgets, sums, counted, now) if ticket.counts_as_run else None
            return exceeded, at_a_time is not None and before >= at_a_time, waiting

        slots.lock(connection, ticket.owner)
        exceeded, is_full, waiting = look()
        if (exceeded or is_full) and (dead := slots.dead_workers(connection, us, ticket.owner)):
            slots.bury(connection, dead)
            exceeded, is_full, waiting = look()
        if exceeded:
            raise exceeded
        if is_full and not (ticket.has_waited or request.is_background or request.is_fallback or waiting < self._most_waiting(rights)):
            raise _too_many(at_a_time, waiting)
        if not ticket.is_in_line:
            slots.add(connection, ticket, us.id, waits=is_full)
        elif not is_full:
            slots.hold(connection, ticket)
        return not is_full

    def _most_waiting(self, rights: Rights) -> int:
        return self._admission.queue_limit if rights.max_waiting_runs is None else rights.max_waiting_runs

    def _wait(self, ticket: Ticket, request: RunRequest, cancellation: Cancellation) -> None:
        """Return when the run may be next. Only the first in line looks; its successor is woken when it leaves."""
        line, waiter = self._lines.setdefault(ticket.owner, deque()), _Waiter()
        line.appendleft(waiter) if request.is_fallback else line.append(waiter)
        patience_s = None if request.is_background else self._admission.queue_timeout_s
        deadline = None if patience_s is None else monotonic() + patience_s
        stop_listening = cancellation.listen(waiter.changed.set)
        try:
            while True:
                left_s = None if deadline is None else max(0.0, deadline - monotonic())
                waiter.changed.wait(_least(POLL_S if line[0] is waiter else None, left_s))
                waiter.changed.clear()
                if cancellation.failure:
                    raise RunFailed(cancellation.failure)
                if line[0] is waiter and self._has_room(ticket):
                    return
                if deadline and monotonic() >= deadline:
                    message = f"no other run of the key has ended within {patience_s:g} s (server.queue_timeout_secs), and it may run no more at a time"
                    raise RateLimited(message, retry_after_s=RETRY_AFTER_S)
        finally:
            stop_listening()
            line.remove(waiter)
            if line:
                line[0].changed.set()
            else:
                del self._lines[ticket.owner]

    def _has_room(self, ticket: Ticket) -> bool:
        most = self._access.rights_of(ticket.owner).max_concurrent_runs
        with self._database.reading() as connection:
            if most is None or slots.count_before(connection, ticket) < most:
                return True
        return self._bury(ticket.owner) > 0

    def _bury(self, owner: str | None) -> int:
        """Remove the slots of dead processes. Costs a read; writes only if necessary."""
        with self._database.reading() as connection:
            dead = slots.dead_workers(connection, self._us(), owner)
        return self._database.write(lambda connection: slots.bury(connection, dead)) if dead else 0

    def _leave(self, ticket: Ticket) -> None:
        """Take back the row of a run that waits. Its next one has another id: this one is removed a little later."""
        if ticket.is_in_line:
            ticket.is_in_line = False
            self._ledger.add(None, ticket.id)
            ticket.id = slots.new_id()

    def _us_signed_in(self) -> leases.Owner:
        """This process. Its lease must be there before it holds a slot, and is renewed by the maintenance of the sessions."""
        self._database.open()
        us = self._us()
        if self._signed_in != us.id:
            self._database.write(lambda connection: leases.sign_in(connection, us))
            self._signed_in = us.id
        return us


def _is_limited(rights: Rights) -> bool:
    return bool(rights.budgets) or rights.max_concurrent_runs is not None


@lru_cache(maxsize=256)
def _state(of: tuple[Budget, ...]) -> Select[Any]:
    """One statement, so that all of it is of the same moment: an end moves a run from the slots to the ledger."""
    return select(
        slots.BEFORE.label("before"),
        slots.WAITING.label("waiting"),
        slots.COUNTED.label("counted"),
        *(budgets.sum_of(budget, f"since_{index}").label(f"used_{index}") for index, budget in enumerate(of)),
    )


def _values(ticket: Ticket, of: tuple[Budget, ...], now: datetime) -> dict[str, Any]:
    beginnings = {f"since_{index}": budgets.beginning(budget, now) for index, budget in enumerate(of)}
    return {"of_owner": ticket.owner, "before": ticket.before, **beginnings}


def _least(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def _too_many(at_a_time: int | None, waiting: int) -> RateLimited:
    return RateLimited(
        f"{at_a_time} of the key's runs are in progress and {waiting} wait, which are its limits (max_concurrent_runs, max_waiting_runs); "
        "wait until one of them has ended",
        retry_after_s=RETRY_AFTER_S,
    )
