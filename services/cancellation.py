"""Cancelling a run from outside: client disconnect, timeout, server shutdown."""

from __future__ import annotations

from collections.abc import Callable

from services.events import Failed


class Cancellation:
    """One per request. Only the first `cancel` counts. It calls the listeners in the event loop, so they must not block."""

    def __init__(self) -> None:
        self.failure: Failed | None = None
        self._listeners: list[Callable[[], None]] = []

    def cancel(self, failure: Failed) -> None:
        """End the run. ``failure`` becomes the last event of its stream."""
        if self.failure is None:
            self.failure = failure
            for callback in tuple(self._listeners):
                callback()

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call ``callback`` on cancellation, immediately if already cancelled. Returns a function that removes the listener."""
        self._listeners.append(callback)
        if self.failure is not None:
            callback()
        return lambda: self._listeners.remove(callback)


CLIENT_GONE = Failed("cancelled", "the client closed its connection, so the run was stopped")
SERVER_STOPS = Failed("shutdown", "the server is stopping, so the run was ended before it had finished")
SERVER_STOPPED = Failed("server_stopped", SERVER_STOPS.message)
"""The same for a run in the background."""
