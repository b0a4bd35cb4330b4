"""Output that must be JSON of the caller's schema. An agent may write text before it submits the JSON; the response has only the JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from services.events import Batch, Finished, Text
from services.fold import Fold
from services.requests import RunRequest


def is_json(run_request: RunRequest) -> bool:
    """Whether the output must be JSON only."""
    return "json_schema" in run_request.options


def json_answer(structured: Any, output: str) -> str:
    """The CLI's structured output; else the output if it is JSON; else the last part of it that is JSON; else the output unchanged."""
    if structured is not None:
        return orjson.dumps(structured).decode()
    parts = output.split("\n\n")
    for start in range(len(parts)):
        candidate = "\n\n".join(parts[start:]).strip()
        if candidate[:1] in ("{", "[", '"') and _is_json(candidate):
            return candidate
    return output


def only_json(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Hold back the text and emit the JSON in one event at the end: only then is it known which part is the JSON."""
    fold = Fold()
    for batch in batches:
        fold.add(batch)
        kept: Batch = [event for event in batch if not isinstance(event, Text)]
        if isinstance(fold.end, Finished):
            kept.insert(-1, Text(json_answer(fold.end.structured_output, fold.text), is_partial=False))
        elif fold.end and fold.text:
            kept.insert(-1, Text(fold.text))
        yield kept


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
