"""Ending a run from outside: its client has gone, its time is up, the server stops."""

from __future__ import annotations

from collections.abc import Callable

from services.events import Failed


class Cancellation:
    """One per request. The first `cancel` counts; everyone who listens is told at once, in the event loop: do not block there."""

    def __init__(self) -> None:
        self.failure: Failed | None = None
        self._listeners: list[Callable[[], None]] = []

    def cancel(self, failure: Failed) -> None:
        """End whatever runs under this cancellation; ``failure`` is how its stream ends."""
        if self.failure is None:
            self.failure = failure
            for tell in tuple(self._listeners):
                tell()

    def listen(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call ``tell`` at the cancellation, now if it has been. Returns the function that stops listening."""
        self._listeners.append(tell)
        if self.failure is not None:
            tell()
        return lambda: self._listeners.remove(tell)


CLIENT_GONE = Failed("cancelled", "the client closed its connection, so the run was stopped")
SERVER_STOPS = Failed("shutdown", "the server is stopping, so the run was ended before it had finished")
