"""A CLI whose stdout is one JSON document, read by field rules (``fields``: our name → dotted path in the document)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.decoding.decoder import Exit
from services.decoding.exit_messages import MESSAGE_LIMIT, ended_without_result, finished
from services.decoding.fields import count_of, dig, flat_text, number_of, text_of
from services.events import Batch, Failed, Started, StopReason, Text, Thinking
from services.failure_kinds import classify, human
from services.usage import Usage

USAGE_FIELDS = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "cache_write_tokens")

DOCUMENT_FIELDS = (
    "text", "thinking", "session_id", "model", "error", "is_error", "status", "stop_reason", "cost_usd", "structured_output", *USAGE_FIELDS,
)  # fmt: skip

STOP_REASONS: Mapping[str, StopReason] = {
    "max_tokens": "max_tokens", "length": "max_tokens", "max_output_tokens": "max_tokens",
    "refusal": "refusal", "content_filter": "refusal",
}  # fmt: skip

CLAUDE_JSON = {
    "text": "result",
    "session_id": "session_id",
    "is_error": "is_error",
    "error": "errors.*",
    "status": "api_error_status",
    "stop_reason": "stop_reason",
    "cost_usd": "total_cost_usd",
    "structured_output": "structured_output",
    "input_tokens": "usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens",
    "output_tokens": "usage.output_tokens",
    "cached_tokens": "usage.cache_read_input_tokens",
    "cache_write_tokens": "usage.cache_creation_input_tokens",
}
"""``claude -p --output-format json`` (recordings claude/json)."""

GEMINI_JSON = {
    "text": "response",
    "session_id": "session_id",
    "error": "error.message",
    "status": "error.code",
    "input_tokens": "stats.models.*.tokens.prompt",
    "output_tokens": "stats.models.*.tokens.candidates",
    "cached_tokens": "stats.models.*.tokens.cached",
    "reasoning_tokens": "stats.models.*.tokens.thoughts",
}
"""``gemini -o json`` (recordings gemini/json)."""


class DocumentDecoder:
    """Emits all events in `finish`: an incomplete document is not an answer."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields
        self._chunks: list[bytes] = []

    @property
    def is_complete(self) -> bool:
        return False

    def feed(self, chunk: bytes) -> Batch:
        self._chunks.append(chunk)
        return []

    def finish(self, exit: Exit) -> Batch:
        output = b"".join(self._chunks)
        document = to_document(output)
        if document is None:
            return [ended_without_result(exit, output[-MESSAGE_LIMIT:].decode(errors="replace"))]
        fields, values = self._fields, FieldReader(document)
        batch: Batch = []
        session_id, model = values.text(fields.get("session_id")), values.text(fields.get("model"))
        if session_id or model:
            batch.append(Started(session_id or None, model or None))
        text, error = values.text(fields.get("text")), human(values.text(fields.get("error")))
        usage, cost = values.usage(fields), values.number(fields.get("cost_usd"))
        if error or exit.code or values.first(fields.get("is_error")) is True:
            message = error or human(text)
            if not message:
                return [*batch, ended_without_result(exit, "", usage=usage)]
            status = int(values.number(fields.get("status")) or 0) or None
            return [*batch, Failed(classify(message, status), message, exit.code, usage, cost)]
        if thinking := values.text(fields.get("thinking")):
            batch.append(Thinking(thinking))
        if not text.strip():
            return [*batch, Failed("backend", "the CLI ended without an answer", exit.code, usage, cost)]
        stop = STOP_REASONS.get(values.text(fields.get("stop_reason")), "end_turn")
        structured = values.first(fields.get("structured_output"))
        return [*batch, Text(text, is_partial=False), finished(exit, stop, usage, cost, structured)]


def to_document(output: bytes) -> Any:
    """The JSON object or array in ``output``, possibly after a banner; None if there is none."""
    for start in (0, *sorted(i for mark in (b"\n{", b"\n[") if (i := output.find(mark)) >= 0)):
        try:
            value = orjson.loads(output[start:])
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict | list):
            return value
    return None


class FieldReader:
    """The values of one JSON document (or line) by path. A missing path reads as empty."""

    def __init__(self, document: Any) -> None:
        self._document = document

    def all(self, path: str | None) -> list[Any]:
        """Every value at a path, or at several paths joined by ``+``."""
        if not path:
            return []
        if path.isidentifier():  # fast path: the common case, evaluated for every token
            document = self._document
            return [document[path]] if isinstance(document, dict) and path in document else []
        return [value for part in path.split("+") for value in dig(self._document, part.strip())]

    def first(self, path: str | None) -> Any:
        return next(iter(self.all(path)), None)

    def text(self, path: str | None) -> str:
        values = self.all(path)
        if len(values) == 1:
            return values[0] if type(values[0]) is str else _to_text(values[0])
        return "\n".join(text for value in values if (text := _to_text(value)))

    def number(self, path: str | None) -> float | None:
        numbers = [number for value in self.all(path) if (number := number_of(value)) is not None]
        return sum(numbers) if numbers else None

    def usage(self, fields: Mapping[str, str]) -> Usage | None:
        counts = {name: sum(map(count_of, self.all(fields[name]))) for name in USAGE_FIELDS if name in fields}
        found = any(number_of(value) is not None for name in counts for value in self.all(fields[name]))
        return Usage(**counts) if found else None


def _to_text(value: Any) -> str:
    return text_of(value) or (flat_text(value) if isinstance(value, dict | list) else "")
