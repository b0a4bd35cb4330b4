"""A webhook delivery that a process has claimed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Times are microseconds since the epoch. ``attempts`` includes the one that it was claimed for."""

    id: str
    """``msg_…``: the ``webhook-id`` of every attempt."""
    run_id: str
    webhook: int
    """The place of its webhook in the run's list, from 0."""
    host: str
    type: str
    created_at: int
    attempts: int
    claimed_until: int
