"""Periodic maintenance of the session store: renew this process's lease, delete old sessions, release the turns of dead processes.

The lease has a greenlet of its own: deletions may take longer than it lasts, and other machines would take this process for dead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import monotonic

import gevent

from services.errors import StoreUnavailable
from services.sessions.conversations import Conversations
from services.store.leases import BEAT_S

log = logging.getLogger("clinvk.sessions")

SWEEP_S = 3_600.0
TIDY_S = 30.0


class Upkeep:
    """Three greenlets per serving process. `start` may be called again, also after a fork."""

    def __init__(
        self,
        conversations: Conversations,
        *,
        retention_days: int,
        beat_s: float = BEAT_S,
        beats: Sequence[Callable[[], object]] = (),
        tidy: Sequence[Callable[[], object]] = (),
    ) -> None:
        """``beats`` are called every ``beat_s``, ``tidy`` every `TIDY_S`. None of them delays the renewal of the lease."""
        self._conversations = conversations
        self._tasks: Sequence[tuple[float, Sequence[Callable[[], object]]]] = (
            (beat_s, (conversations.store.beat,)),
            (beat_s, (conversations.save_again, *beats)),
            (TIDY_S, (self._sweep, *tidy)),
        )
        """(seconds between two rounds, what a round calls), each in its own greenlet."""
        self._retention_days = retention_days
        self._next_sweep = 0.0
        self._greenlets: Sequence[gevent.Greenlet] = ()

    def start(self) -> None:
        if not self._greenlets or self._greenlets[0].dead:
            self._next_sweep = monotonic()
            self._greenlets = [gevent.spawn(self._repeat, pause_s, works) for pause_s, works in self._tasks]

    def stop(self) -> None:
        gevent.killall(self._greenlets)

    def _repeat(self, pause_s: float, works: Sequence[Callable[[], object]]) -> None:
        while True:
            for work in works:
                self._try(work)
            gevent.sleep(pause_s)

    def _sweep(self) -> None:
        if monotonic() < self._next_sweep:
            return
        self._next_sweep = monotonic() + SWEEP_S
        self._conversations.store.release_dead()
        if self._retention_days and (count := self._conversations.expire(self._retention_days)):
            log.info("deleted %d sessions not used for %d days (session.retention_days)", count, self._retention_days)

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except StoreUnavailable as error:  # /health reports it too; the next beat retries
            log.warning("%s", error.message)
        except Exception:
            log.exception("maintenance of the session store failed")
