"""Periodic maintenance of the session store: delete old sessions, renew this process's lease, release the turns of dead processes."""

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
    """One greenlet per serving process. `start` may be called again, also after a fork."""

    def __init__(
        self,
        conversations: Conversations,
        *,
        retention_days: int,
        beat_s: float = BEAT_S,
        beat: Callable[[], object] = lambda: None,
        tidy: Sequence[Callable[[], object]] = (),
    ) -> None:
        """``beat`` is called at every beat, ``tidy`` every `TIDY_S`, or at every beat if those are rarer."""
        self._conversations = conversations
        self._more_at_beat = beat
        self._tidy = tidy
        self._retention_days = retention_days
        self._beat_s = beat_s
        self._greenlet: gevent.Greenlet | None = None

    def start(self) -> None:
        if self._greenlet is None or self._greenlet.dead:
            self._greenlet = gevent.spawn(self._work)

    def stop(self) -> None:
        if self._greenlet:
            self._greenlet.kill()

    def _work(self) -> None:
        next_sweep = next_tidy = monotonic()
        while True:
            if monotonic() >= next_sweep:
                next_sweep = monotonic() + SWEEP_S
                self._try(self._sweep)
            self._try(self._beat)
            self._try(self._more_at_beat)
            if monotonic() >= next_tidy:
                next_tidy = monotonic() + TIDY_S
                for tidy in self._tidy:
                    self._try(tidy)
            gevent.sleep(self._beat_s)

    def _sweep(self) -> None:
        self._conversations.store.release_dead()
        if self._retention_days and (count := self._conversations.expire(self._retention_days)):
            log.info("deleted %d sessions not used for %d days (session.retention_days)", count, self._retention_days)

    def _beat(self) -> None:
        self._conversations.store.beat()
        self._conversations.save_again()

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except StoreUnavailable as error:  # /health reports it too; the next beat retries
            log.warning("%s", error.message)
        except Exception:
            log.exception("maintenance of the session store failed")
