"""Turns a backend's warm processes off for a while when its CLI does not speak the protocol that is known here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

log = logging.getLogger("clinvk.warm")

FAILURES_LIMIT = 3
"""Failures in a row that open it."""
RETRY_S = 600.0
"""After this it is closed again: a CLI is updated under a running server."""


class CircuitBreaker:
    def __init__(self, backend: str, clock: Callable[[], float] = monotonic) -> None:
        self._backend = backend
        self._clock = clock
        self._failures = 0
        self._open_until = clock()

    @property
    def is_closed(self) -> bool:
        return self._clock() >= self._open_until

    def record_success(self) -> None:
        self._failures = 0

    def record_failure(self, why: str, *, is_permanent: bool = False) -> None:
        """``is_permanent``: the CLI speaks another protocol, so that further attempts would fail as well."""
        self._failures += 1
        if is_permanent or self._failures >= FAILURES_LIMIT:
            self._failures = 0
            self._open_until = self._clock() + RETRY_S
            log.warning("%s: warm processes are off for %d minutes, every run starts its own: %s", self._backend, round(RETRY_S / 60), why)
        else:
            log.warning("%s: a warm process failed: %s", self._backend, why)
