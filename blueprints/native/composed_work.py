"""The events of a composed request's runs as one stream, and their results as one answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import orjson

from blueprints import sse
from blueprints.native.translate import EventEncoder, meta, to_cost, to_denied_tools, to_fallback, to_usage
from blueprints.runs.plan import Beginning, Origin
from blueprints.times import now
from services.clis.spec import Invocation
from services.compose.composition import Composition
from services.compose.plan import Outcome, Plan
from services.errors import RUN_FAILURE_CODES, RunFailed
from services.events import Failed
from services.runs.record import RunKind
from services.runs.work import Answer, RunFacts

Results = list[dict[str, Any]]
ToFields = Callable[[Results, Counter[str]], dict[str, Any]]
"""(results, number of them by status) → the answer's fields that are specific to its route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composed:
    """A checked request for several runs. ``member``: what the index of a run is called, ``names``: its caller's names of them."""

    kind: RunKind
    plan: Plan
    member: str
    names: Sequence[str | None]
    to_fields: ToFields

    def to_body(self, results: Results, duration_ms: int, run_id: str | None, origin: Origin) -> dict[str, Any]:
        statuses = Counter(result["status"] for result in results)
        counts = {status: statuses[status] for status in ("failed", "cancelled", "skipped")}
        return {
            "run_id": run_id,
            **self.to_fields(results, statuses),
            **counts,
            "total_duration_ms": duration_ms,
            "results": results,
            "meta": meta(origin.request_id, origin.submitted_at),
        }


class ComposedWork:
    """A `Work` of several runs. Each event has the index of its run; the last one, ``result``, holds the whole answer."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, composition: Composition, composed: Composed, beginning: Beginning, origin: Origin) -> None:
        self._composition = composition
        self._composed = composed
        self._beginning = beginning
        self._origin = origin
        self._answer: Answer | None = None
        self.failure: Failed | None = None

    @property
    def is_over(self) -> bool:
        return bool(self._answer or self.failure)

    def frames(self, *, as_sse: bool = True, is_kept: bool = False) -> Iterator[bytes]:
        numbers = count(self._beginning.first)
        encoders: dict[int, EventEncoder] = {}
        for index, batch in self._composition:
            if index is None:
                yield sse.KEEP_ALIVE if as_sse else b""
                continue
            if index not in encoders:  # not earlier: only now is it known which backend answers
                encoders[index] = self._encoder(index, self._composition.invocations[index], numbers, as_sse)
            yield encoders[index](batch)
        kind, content = self._end()
        number = next(numbers)
        line = orjson.dumps({"type": kind.decode(), "timestamp": now(), "sequence": number, "content": content})
        yield sse.frame(line, event=kind, id=number) if as_sse else line + b"\n"

    def _end(self) -> tuple[bytes, dict[str, Any]]:
        """The type and the content of the last event."""
        try:
            return b"result", self.answer().body
        except RunFailed as error:  # the whole request was cancelled
            return b"error", {"code": error.code, "message": error.message}

    def await_output(self) -> None:
        """Several runs: the stream begins at once."""

    def answer(self) -> Answer:
        if self._answer is None:
            try:
                outcomes = self._composition.outcomes()
            except RunFailed as error:
                self.failure = error.failure
                raise
            composed = self._composed
            results = [{composed.member: i, "name": composed.names[i], **_to_result(outcome)} for i, outcome in enumerate(outcomes)]
            body = composed.to_body(results, self._composition.elapsed_ms(), self._beginning.run_id, self._origin)
            self._answer = Answer(body=body)
        return self._answer

    def facts(self) -> RunFacts:
        return RunFacts()

    def close(self) -> None:
        self._composition.close()

    def _encoder(self, index: int, invocation: Invocation, numbers: Iterator[int], as_sse: bool) -> EventEncoder:
        facts = {
            "run_id": self._beginning.run_id,
            "backend": invocation.spec.name,
            "model": invocation.model,
            "ignored": list(invocation.ignored),
            "fallback": to_fallback(invocation.request.passed_over),
            "elapsed_ms": partial(self._composition.elapsed_ms, index),
        }
        return EventEncoder(facts, as_sse=as_sse, mark={self._composed.member: index}, sequence=numbers)


def _to_result(outcome: Outcome) -> Mapping[str, Any]:
    result = outcome.result
    return {
        "status": outcome.status,
        "backend": result.backend,
        "model": result.model,
        "exit_code": result.exit_code,
        "duration_ms": result.duration_ms,
        "output": result.output,
        "error": result.failure.message if result.failure else None,
        "error_code": RUN_FAILURE_CODES[result.failure.kind] if result.failure else None,
        "token_usage": to_usage(result.usage),
        **to_cost(result),
        "ignored": list(result.ignored),
        "denied_tools": to_denied_tools(result.denied_tools),
        "fallback": to_fallback(result.passed_over),
    }
