"""Answers that must be JSON of the caller's schema. An agent may talk before it hands them in; the answer is the JSON alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from services.events import Batch, Failed, Finished, Text
from services.requests import RunRequest


def is_json(run_request: RunRequest) -> bool:
    """Whether the answer must be JSON alone."""
    return "json_schema" in run_request.options


def json_answer(structured: Any, output: str) -> str:
    """The JSON: as the CLI handed it in, else the output, else the last part of the output that is JSON, else the output as it is."""
    if structured is not None:
        return orjson.dumps(structured).decode()
    parts = output.split("\n\n")
    for start in range(len(parts)):
        candidate = "\n\n".join(parts[start:]).strip()
        if candidate[:1] in ("{", "[", '"') and _is_json(candidate):
            return candidate
    return output


def only_json(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same events with the text at the end, in one piece: what of it is the answer is known only then."""
    said: list[str] = []
    for batch in batches:
        kept: Batch = []
        for event in batch:
            match event:
                case Text():
                    said.append(event.text)
                case Finished():
                    kept += [Text(json_answer(event.structured_output, "".join(said)), is_partial=False), event]
                case Failed():
                    kept += [Text("".join(said)), event] if said else [event]
                case _:
                    kept.append(event)
        yield kept


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
