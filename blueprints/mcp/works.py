"""A tool's runs, encoded as its client's messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from blueprints.mcp.progress import Progress, message
from blueprints.mcp.protocol import Request
from blueprints.mcp.results import ToolResult, answer_of, run_result, runs_result
from blueprints.native.composed_work import ComposedWork
from blueprints.native.plans import ToWork
from blueprints.runs.plan import Beginning, Origin
from blueprints.runs.work import Encode, StreamWork
from services.errors import RunFailed
from services.events import Batch, Failed, is_terminal
from services.fold import Fold
from services.run_stream import RunStream
from services.runs.work import Answer

ToAnswer = Callable[[ToolResult], dict[str, Any]]
"""A tool's result → the JSON-RPC answer."""


def run_work(request: Request, to_answer: ToAnswer) -> ToWork:
    """Of one run. Its failure is a result too."""

    def to_work(stream: RunStream, beginning: Beginning, _: Origin) -> StreamWork:
        def to_encoder(_: bool) -> Encode:
            return _encoder(stream, beginning.run_id, request, to_answer)

        return StreamWork(
            stream,
            stream,
            to_encoder=to_encoder,
            to_answer=lambda result: Answer(body=to_answer(run_result(answer_of(result, beginning.run_id)))),
            headers={},
        )

    return to_work


def _encoder(stream: RunStream, run_id: str, request: Request, to_answer: ToAnswer) -> Encode:
    progress, fold = Progress(request.progress_token), Fold()

    def encode(batch: Batch) -> bytes:
        fold.add(batch)
        if batch and is_terminal(batch[-1]):
            return message(to_answer(run_result(answer_of(fold.result(stream.invocation, 0), run_id))))
        return progress(batch)

    return encode


class ComposedCall(ComposedWork):
    """Of several runs."""

    def __init__(self, *of_a_work: Any, request: Request, to_answer: ToAnswer) -> None:
        super().__init__(*of_a_work)
        self._request = request
        self._to_answer = to_answer

    def frames(self, *, as_sse: bool = True, is_kept: bool = False) -> Iterator[bytes]:
        progress = Progress(self._request.progress_token)
        names = [invocation.spec.name for invocation in self._composition.plan.invocations]
        for index, batch in self._composition:
            yield progress(batch, "" if index is None else names[index])
        yield message(self.answer().body)

    def answer(self) -> Answer:
        try:
            whole: Mapping[str, Any] = super().answer().body
        except RunFailed as error:  # all of it was cancelled
            return Answer(body=self._to_answer(_cancelled(error.failure, self._beginning.run_id)))
        return Answer(body=self._to_answer(runs_result({**one, "run_id": whole["run_id"]} for one in whole["results"])))


def _cancelled(failure: Failed, run_id: str) -> ToolResult:
    return run_result({"output": "", "error": failure.message, "run_id": run_id})
