"""The ledger of a process: what its runs have used, on its way into the database.

Entries are committed together, a moment after they came, and at once where somebody waits for it. What the database does not take
is kept and tried again: nothing is counted twice, and what is lost at last is logged and counted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from threading import Lock
from time import time_ns

import gevent
from gevent.event import Event
from sqlalchemy import Connection

from services.errors import StoreUnavailable
from services.ledger import expiry, writing
from services.ledger.entry import DAY_US, Entry, first_id
from services.ledger.sums import Key, Question, Sums, ask
from services.quotas import slots
from services.store.db import Database

log = logging.getLogger("clinvk.usage")

COMMIT_INTERVAL_S = 0.05
"""How late an entry is that nobody waits for."""
PENDING_LIMIT = 50_000
"""The most entries that wait for the database. The oldest are given up for newer ones."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
BATCH = 1_000
"""The most entries of one transaction."""


class Ledger:
    """One per process. Entries come in the order of their ends, and slots of `services.quotas` are given back with them."""

    def __init__(
        self,
        database: Database,
        *,
        retention_days: int = 400,
        interval_s: float = COMMIT_INTERVAL_S,
        pending_limit: int = PENDING_LIMIT,
    ) -> None:
        self.retention_days = retention_days
        self._database = database
        self._interval_s = interval_s
        self._pending_limit = pending_limit
        self.on_lost: Callable[[int], None] = lambda count: None
        """Called with the number of entries that were given up."""
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._entries: list[Entry] = []
        self._slots: list[str] = []
        self._is_in_doubt = False
        """The last commit failed, and may have been made all the same."""
        self._committing = Lock()
        self._wanted = Event()
        self._greenlet: gevent.Greenlet | None = None

    @property
    def pending(self) -> int:
        """Entries that are not in the database yet."""
        return len(self._entries)

    def add(self, entry: Entry | None, slot: str | None = None) -> None:
        """Store ``entry`` and give back ``slot`` within `COMMIT_INTERVAL_S`. Does not block, and raises nothing."""
        if self._pid != os.getpid():  # after a fork: what the parent has, it stores itself
            self._reset()
        if entry:
            self._entries.append(entry)
        if slot:
            self._slots.append(slot)
        if len(self._entries) > self._pending_limit:
            self._give_up(len(self._entries) - self._pending_limit, "too many wait for the database")
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._work)
        self._wanted.set()

    def flush(self) -> None:
        """Store what has come. Raises StoreUnavailable; then it is tried again later."""
        if self._pid != os.getpid():
            return
        with self._committing:  # who waits here finds its own entry stored with those of the others
            while self._entries or self._slots:
                self._commit()

    def close(self) -> None:
        """Store what has come, at the end of the process."""
        try:
            self.flush()
        except StoreUnavailable as error:
            self._give_up(len(self._entries), error.message)

    def ask(self, question: Question) -> dict[Key, Sums]:
        """The sums of each group over all processes. Others may have entries that are not stored yet, for `COMMIT_INTERVAL_S`."""
        self.flush()
        return ask(self._database, question)

    def expire(self) -> None:
        """Delete the entries that have been kept for long enough, by whole days. The sums of the days stay."""
        before = time_ns() // 1000 - self.retention_days * DAY_US
        if count := expiry.expire(self._database, first_id(before // DAY_US * DAY_US)):
            log.info("deleted %d runs from the usage ledger (usage.retention_days)", count)

    def _work(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self._wanted.wait()
            gevent.sleep(self._interval_s)
            if self._pid != os.getpid() or self._greenlet is not gevent.getcurrent():
                return  # the copy of the parent's greenlet after a fork
            self._wanted.clear()
            try:
                self.flush()
                pause_s = FIRST_PAUSE_S
            except StoreUnavailable as error:
                if pause_s == FIRST_PAUSE_S:
                    log.warning("the usage of %d runs is stored later: %s", self.pending, error.message)
                gevent.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                self._wanted.set()

    def _commit(self) -> None:
        entries, self._entries = self._entries[:BATCH], self._entries[BATCH:]
        freed, self._slots = self._slots, []
        try:
            self._store_somehow(entries, freed)
        except StoreUnavailable:
            self._is_in_doubt = True
            self._entries[:0], self._slots[:0] = entries, freed
            raise
        self._is_in_doubt = False

    def _store_somehow(self, entries: Sequence[Entry], freed: Sequence[str]) -> None:
        try:
            self._store(entries, freed)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("the usage of %d runs could not be stored together", len(entries))
            self._store_alone(entries, freed)

    def _store(self, entries: Sequence[Entry], freed: Sequence[str]) -> None:
        def work(connection: Connection) -> None:
            stored = writing.stored_among(connection, entries) if self._is_in_doubt and entries else set()
            if new := [entry for entry in entries if entry.id not in stored]:
                writing.add(connection, new)
            if freed:
                slots.remove(connection, freed)

        self._database.write(work)

    def _store_alone(self, entries: Sequence[Entry], freed: Sequence[str]) -> None:
        """What the database cannot take costs its own row alone."""
        self._store((), freed)
        self._is_in_doubt = True
        for entry in entries:
            try:
                self._store((entry,), ())
            except StoreUnavailable:
                raise
            except Exception as error:
                self._report_lost(1, str(error))

    def _give_up(self, count: int, reason: str) -> None:
        del self._entries[:count]
        if count:
            self._report_lost(count, reason)

    def _report_lost(self, count: int, reason: str) -> None:
        log.error("the usage of %d runs is lost: %s", count, reason)
        self.on_lost(count)
