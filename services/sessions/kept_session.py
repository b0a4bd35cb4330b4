"""A run whose CLI session is kept or resumed, and restarted with the full text if the CLI no longer has the session."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType

from services.errors import ClinvkError
from services.events import Batch, Failed, Finished, Started
from services.fold import Fold
from services.refusals import to_failure
from services.retried import retried
from services.run_stream import RunStream
from services.session_hook import SessionHook
from services.usage import Usage

AnswerOf = Callable[[Finished, str], str]
"""(the end, the text) → the answer as the client gets it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    session_id: str | None
    answer: str | None
    """None if the answer is incomplete."""
    reported_usage: Usage | None


class KeptSession(SessionHook):
    """Calls ``note`` with the id of the CLI's session, and ``end`` once with the outcome, before the client gets the end."""

    def __init__(
        self, *, note: Callable[[str], None], end: Callable[[Outcome], None], answer_of: AnswerOf = lambda end, text: text
    ) -> None:
        self._note = note
        self._end = end
        self._answer_of = answer_of

    def on_started(self, started: Started) -> Started:
        if started.session_id is not None:
            self._note(started.session_id)
        return started

    def on_ended(self, end: Finished | Failed, fold: Fold) -> Finished | Failed:
        is_whole = isinstance(end, Finished) and end.stop_reason == "end_turn"
        answer = self._answer_of(end, fold.text) if is_whole else None  # type: ignore[arg-type]
        self._end(Outcome(fold.session_id, answer, fold.reported_usage))
        return end


class ResumedStream(Iterator[Batch]):
    """A run that resumes a session. If the CLI no longer has it, ``start_again`` starts a run with the full text instead."""

    def __init__(self, stream: RunStream, start_again: Callable[[], RunStream]) -> None:
        self.invocation = stream.invocation
        self.started_at = stream.started_at
        self._stream = stream
        self._start_again = start_again
        self._batches = retried(stream, self._again)

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def fold(self) -> Fold:
        return self._stream.fold

    @property
    def session_id(self) -> str | None:
        return self._stream.session_id

    def close(self) -> None:
        self._stream.close()

    def _again(self, failure: Failed) -> Iterable[Batch] | None:
        if failure.kind != "unknown_session":
            return None
        self._stream.close()
        try:
            self._stream = self._start_again()
        except ClinvkError as error:
            return [[to_failure(error)]]
        return self._stream

    def __enter__(self) -> ResumedStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
