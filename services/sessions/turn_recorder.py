"""Records a run as a turn of a session. Events carry our session id; the end is stored before callers get it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import msgspec

from services.events import Failed, Finished, Started
from services.fold import Fold
from services.run_stream import RunStream
from services.session_hook import SessionHook
from services.store.records import Turn, TurnEnd, TurnStatus

Record = Callable[[Turn, TurnEnd], None]


class TurnRecorder(SessionHook):
    """Records the turn once, however its run ends: finished, failed, cancelled, client disconnected."""

    always_starts = True

    def __init__(self, turn: Turn, record: Record, *, gone_hint: str, stream: RunStream) -> None:
        """``gone_hint``: advice for the error if the CLI no longer has the session."""
        self.id = turn.session_id
        self._turn = turn
        self._record = record
        self._gone_hint = gone_hint
        self._stream = stream
        self._cli_session_id: str | None = None

    def on_started(self, started: Started) -> Started:
        self._cli_session_id = started.session_id
        return Started(self.id, started.model)

    def on_ended(self, end: Finished | Failed, fold: Fold) -> Finished | Failed:
        if isinstance(end, Failed) and end.kind == "unknown_session":
            end = msgspec.structs.replace(end, message=f"{end.message}; {self._gone_hint}")
        failure = end if isinstance(end, Failed) else None
        self._record(
            self._turn,
            TurnEnd(
                status=_status(failure),
                output=fold.text,
                duration_ms=round((monotonic() - self._stream.started_at) * 1000),
                model=fold.model or self._stream.invocation.model,
                failure=failure.kind if failure else None,
                error=failure.message if failure else None,
                exit_code=end.exit_code,
                usage=end.usage,
                cost_usd=None if end.is_cost_estimated else end.cost_usd,
                cli_session_id=self._cli_session_id,
            ),
        )
        return end


def _status(failure: Failed | None) -> TurnStatus:
    if failure is None:
        return "finished"
    return "cancelled" if failure.kind in ("cancelled", "shutdown", "server_stopped") else "failed"
