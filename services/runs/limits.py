"""The limits of background runs and of what is kept of runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.runs.record import Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    timeout_s: float = 14_400.0
    """Of a background run, from its start."""
    retention_s: float = 7 * 86_400.0
    """How long an ended run is kept; its events may be kept for a shorter time."""
    events_retention_s: float = 86_400.0
    max_waiting: int = 10_000
    max_waiting_per_owner: int = 1_000
    webhook_secret: str = field(default="", repr=False)
    """Signs the webhooks of requests without a secret."""
    webhook_allowed_hosts: tuple[str, ...] = ()
    """May have private addresses and plain HTTP."""
    webhooks: tuple[Webhook, ...] = ()
    """Of background responses whose request has none."""
