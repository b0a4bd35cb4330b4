"""Callbacks from a run to the session that it is a turn of."""

from __future__ import annotations

from services.events import Failed, Finished, Started
from services.fold import Fold


class SessionHook:
    """Called at the start and the end of a run. The default does nothing."""

    id: str | None = None
    """The id of our session, known before the run starts."""

    always_starts = False
    """Whether the stream starts with Started even if the CLI reports no session."""

    def on_started(self, started: Started) -> Started:
        """The CLI reported its session. Returns the event for callers."""
        return started

    def on_ended(self, end: Finished | Failed, fold: Fold) -> Finished | Failed:
        """Called once when the run has ended, before the last event is sent. Returns the event for callers."""
        return end


class WithoutSession(SessionHook):
    """Removes the id of the CLI's session, which cannot be continued."""

    def on_started(self, started: Started) -> Started:
        return Started(None, started.model)
