"""What ties a run to the session whose turn it is."""

from __future__ import annotations

from services.events import Failed, Finished, Started
from services.fold import Fold


class SessionHook:
    """What the start and the end of a run mean to its session. This one: nothing."""

    id: str | None = None
    """Of a session of ours, known before the run begins."""

    always_starts = False
    """Whether the events begin with Started even where the CLI reports no session."""

    def on_started(self, started: Started) -> Started:
        """The CLI reports its session. Returns what callers get to know of it."""
        return started

    def on_ended(self, end: Finished | Failed, fold: Fold) -> Finished | Failed:
        """Called once, however the run ended, before a caller gets the end. Returns the end that callers get."""
        return end


class WithoutSession(SessionHook):
    """The CLI's session can be continued by nobody, so its id is removed."""

    def on_started(self, started: Started) -> Started:
        return Started(None, started.model)
