"""One run of a CLI, encoded for its client."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from time import monotonic

from services.errors import RunFailed
from services.events import Batch, Failed, Started, UsageUpdate, is_terminal
from services.fold import EventStream, Fold
from services.requests import RunResult
from services.runs.work import Answer, RunFacts

Encode = Callable[[Batch], bytes]
ToEncoder = Callable[[bool], Encode]
"""(as server-sent events, else as NDJSON) → the encoder of one stream."""
ToAnswer = Callable[[RunResult], Answer]
"""Raises RunFailed where the surface answers a failed run with an error."""


class StreamWork:
    """A `Work` of one run. Its events are read once, by `frames` or by `answer`."""

    def __init__(
        self,
        run: EventStream,
        batches: Iterable[Batch],
        *,
        to_encoder: ToEncoder,
        to_answer: ToAnswer,
        headers: dict[str, str],
        keeps_session: bool = True,
    ) -> None:
        """``batches``: the events of ``run``, possibly transformed. ``keeps_session``: whether a later run may continue its session."""
        self.headers = headers
        self._run = run
        self._batches = batches
        self._to_encoder = to_encoder
        self._to_answer = to_answer
        self._keeps_session = keeps_session
        self._fold = Fold()
        self._answer: Answer | None = None

    @property
    def is_over(self) -> bool:
        return self._fold.end is not None

    @property
    def failure(self) -> Failed | None:
        end = self._fold.end
        return end if isinstance(end, Failed) else None

    def frames(self, *, as_sse: bool = True, is_kept: bool = False) -> Iterator[bytes]:
        encode = self._to_encoder(as_sse)
        if not is_kept:
            yield from map(encode, self._batches)
            return
        for batch in self._batches:
            if batch and is_terminal(batch[-1]) and len(batch) > 1:
                self._fold.add(batch[:-1])
                yield encode(batch[:-1])
                batch = batch[-1:]
            self._fold.add(batch)
            yield encode(batch)

    def await_output(self) -> None:
        self._batches = _from_first_output(self._batches)

    def answer(self) -> Answer:
        if self._answer is None:
            for batch in self._batches:
                self._fold.add(batch)
            result = self._fold.result(self._run.invocation, round((monotonic() - self._run.started_at) * 1000))
            self._answer = self._to_answer(result)
        return self._answer

    def facts(self) -> RunFacts:
        run, fold = self._run, self._run.fold
        return RunFacts(
            backend=run.invocation.spec.name,
            model=fold.model or run.invocation.model,
            session_id=run.session_id,
            cli_session_id=fold.session_id if self._keeps_session else None,
            last_tool=fold.last_tool,
            passed_over=run.invocation.request.passed_over,
        )

    def close(self) -> None:
        self._run.close()


def _from_first_output(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Wait for the first output or the first keep-alive, then yield all batches. Raises RunFailed for a failure before that."""
    batches = iter(batches)
    taken: list[Batch] = []
    for batch in batches:
        taken.append(batch)
        output = [event for event in batch if not isinstance(event, Started | UsageUpdate)]
        if output and isinstance(output[0], Failed):
            raise RunFailed(output[0])
        if output or not batch:
            break
    return chain(taken, batches)
