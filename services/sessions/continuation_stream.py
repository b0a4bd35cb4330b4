"""A run whose session is kept, or continued: the same events, once more in full where the CLI does not know the session any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

import msgspec

from services.errors import ClinvkError
from services.events import Batch, Failed, Finished, Started, Text, UsageUpdate
from services.runner import RunStream
from services.usage import Usage

AnswerOf = Callable[[Finished, str], str]
"""(the end, the text so far) → the answer as the client gets it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``answer`` None: it did not come whole. ``used`` is what the CLI told, not less what was before."""

    session_id: str | None
    answer: str | None
    used: Usage | None


class KeptStream(Iterator[Batch]):
    """`close` must be called. ``note`` gets the id of the CLI's session, ``end`` what came of it, once, before the client sees it.

    ``start_again`` is there where the run resumes a session: it is called if the CLI has no such session, before any word.
    ``used``: what the session had used, for a CLI that counts that in.
    """

    def __init__(
        self,
        stream: RunStream,
        *,
        note: Callable[[str], None],
        end: Callable[[Outcome], None],
        answer_of: AnswerOf = lambda end, text: text,
        start_again: Callable[[], RunStream] | None = None,
        used: Usage | None = None,
    ) -> None:
        self.invocation = stream.invocation
        self.started_at = stream.started_at
        self._stream: Iterator[Batch] = stream
        self._close_run = stream.close
        self._start_again = start_again
        self._note = note
        self._end = end
        self._answer_of = answer_of
        self._used_before = used
        self._used: Usage | None = None
        self._held: Batch = []
        self._text: list[str] = []
        self._session_id: str | None = None
        self._has_ended = False

    def __next__(self) -> Batch:
        while True:
            batch = next(self._stream)
            if self._start_again is None:
                return self._seen(batch)
            words = [event for event in batch if not isinstance(event, Started | UsageUpdate)]
            if isinstance(words[0] if words else None, Failed) and words[0].kind == "unknown_session":  # type: ignore[union-attr]
                self._run_again()
            elif words:
                self._start_again = None
                return self._seen(self._held + batch)
            elif batch:
                self._held += batch  # not to be said twice, should the run begin again
            else:
                return batch

    def close(self) -> None:
        """End the run if it is still going."""
        try:
            self._close_run()
        finally:
            self._tell(None)

    def _run_again(self) -> None:
        assert self._start_again
        self._close_run()
        self._held, self._used_before = [], None
        try:
            stream = self._start_again()
            self._stream, self._close_run = stream, stream.close
        except ClinvkError as error:
            failure = getattr(error, "failure", None)
            self._stream = iter([[failure if isinstance(failure, Failed) else Failed("backend", error.message)]])
        self._start_again = None

    def _seen(self, batch: Batch) -> Batch:
        for index, event in enumerate(batch):
            match event:
                case Started(str(id)):
                    self._session_id = id
                    self._note(id)
                case Text():
                    self._text.append(event.text)
                case UsageUpdate() | Finished() | Failed() if event.usage:
                    self._used = event.usage
                    if self._used_before:
                        batch[index] = msgspec.structs.replace(event, usage=event.usage - self._used_before)
            if isinstance(event, Finished | Failed):
                self._tell(event)
        return batch

    def _tell(self, end: Finished | Failed | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        is_whole = isinstance(end, Finished) and end.stop_reason == "end_turn"
        answer = self._answer_of(end, "".join(self._text)) if is_whole else None  # type: ignore[arg-type]
        self._end(Outcome(self._session_id, answer, self._used))

    def __enter__(self) -> KeptStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
