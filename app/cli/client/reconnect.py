"""Repeats a request while its server is away: restarted, replaced, or cut off."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

from app.cli.client.remote import NotReachable, Refused
from app.cli.client.screen import interject

AWAY = {502, 503, 504}
"""Statuses of a server that starts or stops, or of a proxy in front of one."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
RECONNECT_S = 600.0
"""How long a server may be away, unless the command says."""

T = TypeVar("T")


def while_away(request: Callable[[], T], limit_s: float) -> T:
    """The answer to ``request``, which is repeated for up to ``limit_s`` while the server is away; says so once.

    Raises NotReachable or Refused after that, and Refused at once if the server is there.
    """
    deadline, pause_s, is_away = time.monotonic() + limit_s, FIRST_PAUSE_S, False
    while True:
        try:
            answer = request()
        except (NotReachable, Refused) as error:
            if isinstance(error, Refused) and error.status not in AWAY:
                raise
            if time.monotonic() + pause_s > deadline:
                raise
            if not is_away:
                interject(f"{error}; trying to reconnect for up to {limit_s:g} s")
        else:
            if is_away:
                interject("connected again")
            return answer
        is_away = True
        gevent.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
