"""A run as a turn of a session: the same events under our own session id, and its end in the store before anybody sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic
from types import TracebackType

import msgspec

from services.cancellation import CLIENT_GONE
from services.events import Batch, Event, Failed, Finished, Started, Text, UsageUpdate
from services.runner import RunStream
from services.store.records import Turn, TurnEnd, TurnStatus
from services.usage import Usage

BUG = Failed("backend", "an error inside the server ended this turn; its log has the details")

Record = Callable[[Turn, TurnEnd], None]


class TurnStream(Iterator[Batch]):
    """A `RunStream` whose turn is recorded once, however it ends: finished, failed, cancelled, its client gone.

    The first event is always Started, with ``session_id``. `close` must be called (it is a context manager).
    ``usage_before``: what the session had used, for a CLI that counts that in.
    """

    def __init__(self, stream: RunStream, turn: Turn, record: Record, *, gone_hint: str, usage_before: Usage | None = None) -> None:
        self.session_id = turn.session_id
        self.invocation = stream.invocation
        self.started_at = stream.started_at
        self._stream = stream
        self._turn = turn
        self._record = record
        self._gone_hint = gone_hint
        self._usage_before = stream.telemetry.usage_before = usage_before
        self._has_started = self._is_recorded = False
        self._text: list[str] = []
        self._cli_session_id: str | None = None
        self._model: str | None = None
        self._usage: Usage | None = None

    def __next__(self) -> Batch:
        try:
            batch = next(self._stream)
        except StopIteration:
            self._end(CLIENT_GONE)
            raise
        except Exception:
            self._end(BUG)
            raise
        return self._seen(batch) if batch else batch

    def close(self) -> None:
        """End the run if it is still going, and record that it was ended."""
        try:
            self._stream.close()
        finally:
            self._end(self._stream.failure or CLIENT_GONE)

    def _seen(self, batch: Batch) -> Batch:
        events: list[Event] = []
        for event in batch:
            if type(event) is Text and self._has_started:  # nine in ten
                self._text.append(event.text)
                events.append(event)
                continue
            if self._usage_before and isinstance(event, UsageUpdate | Finished | Failed) and event.usage:
                event = msgspec.structs.replace(event, usage=event.usage - self._usage_before)
            match event:
                case Started():
                    self._cli_session_id, self._model = event.session_id, event.model
                    event = Started(self.session_id, event.model)
                case Text():
                    self._text.append(event.text)
                case UsageUpdate():
                    self._usage = event.usage
                case Failed("unknown_session"):
                    event = Failed(event.kind, f"{event.message}; {self._gone_hint}", event.exit_code, event.usage, event.cost_usd)
            if not self._has_started and not isinstance(event, Started):
                events.append(Started(self.session_id, None))
            self._has_started = True
            if isinstance(event, Finished | Failed):
                self._end(event)
            events.append(event)
        return events

    def _end(self, end: Finished | Failed) -> None:
        if self._is_recorded:
            return
        self._is_recorded = True
        failure = end if isinstance(end, Failed) else None
        self._record(
            self._turn,
            TurnEnd(
                status=_status(failure),
                output="".join(self._text),
                duration_ms=round((monotonic() - self.started_at) * 1000),
                model=self._model or self.invocation.model,
                failure=failure.kind if failure else None,
                error=failure.message if failure else None,
                exit_code=end.exit_code,
                usage=end.usage or self._usage,
                cost_usd=end.cost_usd,
                cli_session_id=self._cli_session_id,
            ),
        )

    def __enter__(self) -> TurnStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class NamelessStream(Iterator[Batch]):
    """A `RunStream` that belongs to no session: the CLI's id, which nobody can use, is taken out."""

    def __init__(self, stream: RunStream) -> None:
        self.session_id = None
        self.invocation = stream.invocation
        self.started_at = stream.started_at
        self.close = stream.close
        self._stream = stream

    def __next__(self) -> Batch:
        batch = next(self._stream)
        if batch and isinstance(started := batch[0], Started):
            batch[0] = Started(None, started.model)
        return batch

    def __enter__(self) -> NamelessStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _status(failure: Failed | None) -> TurnStatus:
    if failure is None:
        return "finished"
    return "cancelled" if failure.kind in ("cancelled", "shutdown") else "failed"
