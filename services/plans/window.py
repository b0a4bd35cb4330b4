"""One window of a subscription, as a CLI reports it."""

from __future__ import annotations

import msgspec

REJECTED = "rejected"
"""The status of a window whose limit is reached: the vendor refuses requests until it resets."""


LATEST_RESET = 2**33
"""In seconds since the epoch: the year 2242. A later reset is no time in seconds."""


class PlanWindow(msgspec.Struct, frozen=True):
    """None: the CLI did not say. ``used`` is a share from 0 to 1, ``resets_at`` seconds since the epoch, ``status`` the vendor's word."""

    name: str
    used: float | None = None
    resets_at: int | None = None
    status: str | None = None


def share(used: float | None) -> float | None:
    """Vendors count past the limit where more is paid for."""
    return None if used is None else min(1.0, max(0.0, used))


def reset(seconds: float | None) -> int | None:
    """``seconds``: since the epoch, as the CLI reports it. None for a value that cannot be a time in seconds, such as milliseconds."""
    return int(seconds) if seconds is not None and 0 < seconds < LATEST_RESET else None
