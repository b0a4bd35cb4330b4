"""Where runs and webhooks are counted. Metrics, where they are on, hear of each."""

from __future__ import annotations

from collections.abc import Callable

from services.runs.record import RunKind

ATTEMPT_RESULTS = ("accepted", "failed", "given_up")
"""Of a webhook request. One that failed is sent again."""


class Tally:
    """One per process. Whoever counts replaces `count`, which must be quick and must not raise."""

    def __init__(self) -> None:
        self.count: Callable[[str, tuple[str, ...]], None] = lambda name, labels: None
        """(name, labels): `background_runs_total`, `runs_lost_total`, `webhook_attempts_total`."""

    def ended(self, kind: RunKind, status: str) -> None:
        self.count("background_runs_total", (kind, status))

    def lost(self) -> None:
        self.count("runs_lost_total", ())

    def attempted(self, result: str) -> None:
        """``result``: of `ATTEMPT_RESULTS`."""
        self.count("webhook_attempts_total", (result,))
