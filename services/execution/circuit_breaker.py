"""Whether a backend's warm processes are to be relied on: they are not, for a while, once its CLI does not speak as we know it."""

from __future__ import annotations

import logging
from time import monotonic

log = logging.getLogger("clinvk.warm")

PATIENCE = 3
"""Failures in a row after which it is given up."""
RETRY_S = 600.0
"""After so long it is tried again: a CLI is updated under a running server."""


class CircuitBreaker:
    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._failures = 0
        self._lost_until = 0.0

    @property
    def is_closed(self) -> bool:
        return monotonic() >= self._lost_until

    def record_success(self) -> None:
        """A run went well."""
        self._failures = 0

    def record_failure(self, why: str, *, for_good: bool = False) -> None:
        """``for_good``: no mishap, but another protocol."""
        self._failures += 1
        if for_good or self._failures >= PATIENCE:
            self._failures = 0
            self._lost_until = monotonic() + RETRY_S
            log.warning("%s: warm processes are off for %d minutes, every run starts its own: %s", self._backend, round(RETRY_S / 60), why)
        else:
            log.warning("%s: a warm process failed: %s", self._backend, why)
