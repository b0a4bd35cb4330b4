"""Exponential back-off: when to try again what has failed."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

FIRST_S = 5.0
MOST_S = 300.0


class Backoff:
    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._delay_s = 0.0
        self._due_at = clock()

    @property
    def is_due(self) -> bool:
        return self._clock() >= self._due_at

    def expedite(self) -> None:
        """Try again at once: somebody needs it now."""
        self._due_at = self._clock()

    def record_success(self) -> None:
        self._delay_s, self._due_at = 0.0, self._clock()

    def record_failure(self) -> None:
        self._delay_s = min(2 * self._delay_s or FIRST_S, MOST_S)
        self._due_at = self._clock() + self._delay_s
