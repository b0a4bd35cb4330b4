"""gunicorn's parent process, with one rule for every way to stop it: the first signal asks, the second insists."""

from __future__ import annotations

import signal
import sys
from typing import Any

from gunicorn.arbiter import Arbiter


class GracefulArbiter(Arbiter):
    """gunicorn's own ends everything at once at the first SIGINT, and does not hear a second SIGTERM."""

    _was_asked = False

    def signal(self, sig: int, frame: Any) -> None:
        if sig in (signal.SIGINT, signal.SIGTERM):
            sig = signal.SIGQUIT if self._was_asked else sig
            self._was_asked = True
        super().signal(sig, frame)

    def handle_int(self) -> None:
        print(file=sys.stderr)  # ends the line that a terminal has written ^C on
        raise StopIteration
