"""One window of a subscription, as a CLI reports it."""

from __future__ import annotations

import msgspec

REJECTED = "rejected"
"""The status of a window whose limit is reached: the vendor refuses requests until it resets."""


class PlanWindow(msgspec.Struct, frozen=True):
    """None: the CLI did not say. ``used`` is a share from 0 to 1, ``resets_at`` seconds since the epoch, ``status`` the vendor's word."""

    name: str
    used: float | None = None
    resets_at: int | None = None
    status: str | None = None


def share(used: float | None) -> float | None:
    """Vendors count past the limit where more is paid for."""
    return None if used is None else min(1.0, max(0.0, used))
