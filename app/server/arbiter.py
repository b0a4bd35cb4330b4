"""gunicorn's parent process with one rule for SIGINT and SIGTERM: the first stops gracefully, the second at once."""

from __future__ import annotations

import signal
import sys
from typing import Any

from gunicorn.arbiter import Arbiter


class GracefulArbiter(Arbiter):
    """gunicorn's own arbiter stops at once on the first SIGINT and ignores a second SIGTERM."""

    _was_asked = False

    def signal(self, sig: int, frame: Any) -> None:
        if sig in (signal.SIGINT, signal.SIGTERM):
            sig = signal.SIGQUIT if self._was_asked else sig
            self._was_asked = True
        super().signal(sig, frame)

    def handle_int(self) -> None:
        print(file=sys.stderr)  # ends the line on which the terminal echoed ^C
        raise StopIteration
