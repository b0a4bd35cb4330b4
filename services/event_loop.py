"""How a long computation shares the event loop."""

from __future__ import annotations

from time import monotonic

import gevent

SLICE_S = 0.005
SHORTEST_S = 1e-6

_slice_ends_at = 0.0


def yield_to_others() -> None:
    """Let whatever is ready run, I/O included, unless the current slice began less than `SLICE_S` ago.

    A long computation calls it between its elements, however small they are. The pause is a timer: after ``gevent.sleep(0)`` the loop
    polls for I/O only once 50 greenlets have run (gevent's ``CALLBACK_CHECK_COUNT``), so another request waited 50 slices.
    """
    global _slice_ends_at
    if monotonic() >= _slice_ends_at:
        gevent.sleep(SHORTEST_S)
        _slice_ends_at = monotonic() + SLICE_S
