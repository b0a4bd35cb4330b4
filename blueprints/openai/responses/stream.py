"""A run's events → the event stream of OpenAI's Responses API, as bytes. Pure.

Grammar: ``response.created``, ``response.in_progress``; for each item ``output_item.added``, its part added, its deltas, its part
done, ``output_item.done``; then ``response.completed`` or ``response.incomplete``. A failure is ``error``, which the SDKs raise,
then ``response.failed``, which Codex waits for, in OpenAI's order. ``sequence_number`` counts all events.

A background response has been sent ``response.created`` and ``response.queued`` before its run starts. OpenAI has no event for its
cancellation; here it is ``response.failed`` with a response that is ``cancelled``, and no ``error``: its reader asked for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from blueprints import sse
from blueprints.compat.estimate import usage_or_estimate
from blueprints.openai.errors import SERVER_ERROR
from blueprints.openai.responses import ids as response_id
from blueprints.openai.responses.answer import NewId, message_item, reasoning_item, summary_part, text_part, to_state, to_status
from blueprints.openai.usage import to_response_usage
from services.events import Batch, Failed, FailureKind, Finished, Started, Text, Thinking


@dataclass(frozen=True, slots=True)
class Kind:
    """How items of one kind are encoded."""

    prefix: str
    index: str
    part_event: str
    text_event: str
    item: Callable[[str, str | None, str], dict[str, Any]]
    part: Callable[[str], dict[str, Any]]
    more: Mapping[str, Any]


MESSAGE = Kind(
    response_id.MESSAGE, "content_index", "response.content_part", "response.output_text", message_item, text_part, {"logprobs": []}
)
REASONING = Kind(
    response_id.REASONING,
    "summary_index",
    "response.reasoning_summary_part",
    "response.reasoning_summary_text",
    reasoning_item,
    summary_part,
    {},
)


@dataclass(slots=True)
class OpenItem:
    """The item being streamed. ``delta``: its delta frame before and after the sequence number and text."""

    kind: Kind
    place: dict[str, Any]
    delta: tuple[bytes, bytes]
    text: list[str] = field(default_factory=list)


def event(type: str, number: int, **fields: Any) -> bytes:
    return sse.frame(orjson.dumps({"type": type, "sequence_number": number, **fields}), event=type.encode())


def error_fields(error: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the event ``error``. OpenAI documents them at the top level; its servers send them inside ``error``, which the SDKs
    read."""
    return {"code": error["code"], "message": error["message"], "param": error["param"], "error": error}


class ResponseEncoder:
    """Encodes one response's events. ``new_id`` builds ids from the CLI's session, which is known once the CLI has started. ``first``:
    the number of the first event; above 0 the response has been created before."""

    def __init__(
        self,
        facts: Mapping[str, Any],
        *,
        new_id: NewId,
        prompt_tokens: int,
        to_error: Callable[[Failed], dict[str, Any]],
        error_codes: Mapping[FailureKind, str],
        first: int = 0,
    ) -> None:
        self._facts = facts
        self._new_id = new_id
        self._prompt_tokens = prompt_tokens
        self._to_error = to_error
        self._error_codes = error_codes
        self._id = ""
        self._session_id: str | None = None
        self._is_created = first > 0
        self._sequence = first
        self._output: list[dict[str, Any]] = []
        self._item: OpenItem | None = None
        self._output_bytes = 0
        self.final: dict[str, Any] | None = None
        """The response when it is over."""

    def __call__(self, batch: Batch) -> bytes:
        parts: list[bytes] = []
        if batch and not self._id:
            self._start(batch[0].session_id if isinstance(batch[0], Started) else None, parts)
        for one in batch:
            match one:
                case Text() if one.text:
                    self._append(MESSAGE, one.text, parts)
                case Thinking() if one.text:
                    self._append(REASONING, one.text, parts)
                case Finished():
                    self._end(one, parts)
                case Failed():
                    self._fail(one, parts)
        return b"".join(parts) or sse.KEEP_ALIVE

    def _frame(self, type: str, **fields: Any) -> bytes:
        self._sequence += 1
        return event(type, self._sequence - 1, **fields)

    def _start(self, session_id: str | None, parts: list[bytes]) -> None:
        self._session_id = session_id
        self._id = self._new_id(response_id.RESPONSE, session_id)
        state = to_state(self._facts, self._id, "in_progress", [])
        if not self._is_created:
            parts.append(self._frame("response.created", response=state))
        parts.append(self._frame("response.in_progress", response=state))

    def _append(self, kind: Kind, text: str, parts: list[bytes]) -> None:
        item = self._to_item(kind, parts)
        item.text.append(text)
        data = orjson.dumps(text)
        self._output_bytes += len(data) - 2 if kind is MESSAGE else 0
        parts.append(item.delta[0] + b'%d,"delta":%s' % (self._sequence, data) + item.delta[1])
        self._sequence += 1

    def _to_item(self, kind: Kind, parts: list[bytes]) -> OpenItem:
        """The open item, after closing one of another kind."""
        if self._item and self._item.kind is kind:
            return self._item
        self._close_item("completed", parts)
        item_id, index = self._new_id(kind.prefix, self._session_id), len(self._output)
        parts.append(self._frame("response.output_item.added", output_index=index, item=kind.item(item_id, None, "in_progress")))
        place = {"item_id": item_id, "output_index": index, kind.index: 0}
        parts.append(self._frame(f"{kind.part_event}.added", **place, part=kind.part("")))
        name = f"{kind.text_event}.delta"
        shared = orjson.dumps({"type": name, **place, **kind.more})[:-1]
        self._item = OpenItem(kind, place, (b'event: %s\ndata: %s,"sequence_number":' % (name.encode(), shared), b"}\n\n"))
        return self._item

    def _close_item(self, status: str, parts: list[bytes]) -> None:
        item, self._item = self._item, None
        if item is None:
            return
        text, kind = "".join(item.text), item.kind
        whole = kind.item(item.place["item_id"], text, status)
        parts.append(self._frame(f"{kind.text_event}.done", **item.place, text=text, **kind.more))
        parts.append(self._frame(f"{kind.part_event}.done", **item.place, part=kind.part(text)))
        parts.append(self._frame("response.output_item.done", output_index=item.place["output_index"], item=whole))
        self._output.append(whole)

    def _end(self, end: Finished, parts: list[bytes]) -> None:
        status = to_status(end.stop_reason)
        if not any(item["type"] == "message" for item in self._output):  # only tool calls, no text: still a response
            self._to_item(MESSAGE, parts)
        self._close_item(status, parts)
        content = usage_or_estimate(end.usage, self._prompt_tokens, self._output_bytes, to_response_usage)
        self.final = to_state(self._facts, self._id, status, self._output, usage=content, stop_reason=end.stop_reason)
        parts.append(self._frame(f"response.{status}", response=self.final))

    def _fail(self, failure: Failed, parts: list[bytes]) -> None:
        self._close_item("incomplete", parts)
        cause = {"code": self._error_codes.get(failure.kind, SERVER_ERROR), "message": failure.message}
        is_cancelled = failure.kind == "cancelled"
        is_asked_for = is_cancelled and self._facts["background"]
        if not is_asked_for:
            parts.append(self._frame("error", **error_fields(self._to_error(failure)["error"])))
        self.final = to_state(
            self._facts,
            self._id,
            "cancelled" if is_cancelled else "failed",
            self._output,
            usage=to_response_usage(failure.usage) if failure.usage else None,
            error=None if is_asked_for else cause,
        )
        parts.append(self._frame("response.failed", response=self.final))
