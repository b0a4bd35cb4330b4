"""One execution of a CLI in the ledger, and the id that orders it in time."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from services.usage import Usage

RANDOM_BITS = 11
DAY_US = 86_400_000_000
MODEL_LIMIT_CHARS = 128
"""The longest model name that is kept. Longer ones are truncated."""


def new_id(ended_at: int) -> int:
    """Ids are in the order of the ends, and unique over all processes: microseconds since the epoch, then random bits."""
    return first_id(ended_at) + secrets.randbits(RANDOM_BITS)


def first_id(at: int) -> int:
    """The least id of an execution that ended at ``at`` (microseconds since the epoch) or later."""
    return at << RANDOM_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One execution that has ended."""

    id: int
    owner: str
    backend: str
    model: str
    """Empty where it is not known."""
    run_id: str
    is_failure: bool
    is_fallback: bool
    """Another attempt of a run that is already counted."""
    usage: Usage
    cost_usd: float
    is_cost_estimated: bool
    duration_ms: int

    @property
    def day(self) -> int:
        """Days since the epoch (UTC)."""
        return (self.id >> RANDOM_BITS) // DAY_US
