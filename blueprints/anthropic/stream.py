"""A run's events → the event stream of Anthropic's Messages API, as bytes. Pure.

Grammar: ``message_start``, then for each block ``content_block_start``, its deltas, ``content_block_stop``, then ``message_delta``
with the usage, ``message_stop``. A failure is one final ``error`` event. Keep-alives are ``ping`` events.
The CLI's own tool calls are not sent: a ``tool_use`` block would request the client to run them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from blueprints import sse
from blueprints.anthropic.errors import to_error
from blueprints.anthropic.threads import new_message_id
from blueprints.anthropic.translate import SIGNATURE, to_usage
from blueprints.compat.estimate import usage_or_estimate
from services.events import Batch, Event, Failed, Finished, Text, Thinking
from services.runs.record import Chunk, Run, RunError
from services.usage import Usage

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
BLOCK_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%s}\n\n'
BLOCK_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%%d,"delta":{"type":"%s","%s":%%s}}\n\n'
TEXT_DELTA = DELTA % (b"text_delta", b"text")
THINKING_DELTA = DELTA % (b"thinking_delta", b"thinking")
SIGNATURE_DELTA = DELTA % (b"signature_delta", b"signature")

EMPTY_TEXT = b'{"type":"text","text":""}'
EMPTY_THINKING = b'{"type":"thinking","thinking":"","signature":""}'


class MessageEncoder:
    """Encodes one response's events. ``to_error`` builds the body of an ``error`` event. ``input_tokens``: for ``message_start``."""

    def __init__(self, model: str, *, input_tokens: int, has_thinking: bool, to_error: Callable[[Failed], dict[str, Any]]) -> None:
        self._model = model
        self._input_tokens = input_tokens
        self._has_thinking = has_thinking
        self._to_error = to_error
        self._has_begun = False
        self._index = -1
        self._open: type[Event] | None = None
        self._has_text = False
        self._output_bytes = 0

    def __call__(self, batch: Batch) -> bytes:
        parts = []
        if not self._has_begun and not (batch and isinstance(batch[0], Failed)):
            self._has_begun = True
            parts.append(self._start())
        if not batch:
            parts.append(PING)
        for event in batch:
            match event:
                case Text() if event.text:
                    self._to_block(Text, parts)
                    text = orjson.dumps(event.text)
                    self._output_bytes += len(text) - 2
                    parts.append(TEXT_DELTA % (self._index, text))
                case Thinking() if event.text and self._has_thinking:
                    self._to_block(Thinking, parts)
                    parts.append(THINKING_DELTA % (self._index, orjson.dumps(event.text)))
                case Finished():
                    self._end(event, parts)
                case Failed():
                    parts.append(b"event: error\ndata: %s\n\n" % orjson.dumps(self._to_error(event)))
        return b"".join(parts)

    def _start(self) -> bytes:
        message: dict[str, Any] = {
            "id": new_message_id(),
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": to_usage(Usage(input_tokens=self._input_tokens)),
        }
        return b'event: message_start\ndata: {"type":"message_start","message":%s}\n\n' % orjson.dumps(message)

    def _to_block(self, kind: type[Event], parts: list[bytes]) -> None:
        """Open a block of ``kind``, unless it is open already."""
        if self._open is kind:
            return
        self._close_block(parts)
        self._index += 1
        self._open = kind
        self._has_text = self._has_text or kind is Text
        parts.append(BLOCK_START % (self._index, EMPTY_TEXT if kind is Text else EMPTY_THINKING))

    def _close_block(self, parts: list[bytes]) -> None:
        if self._open is Thinking:
            parts.append(SIGNATURE_DELTA % (self._index, orjson.dumps(SIGNATURE)))
        if self._open is not None:
            parts.append(BLOCK_STOP % self._index)
        self._open = None

    def _end(self, event: Finished, parts: list[bytes]) -> None:
        if not self._has_text:  # e.g. a stop sequence at the very start; clients read content[0].text anyway
            self._to_block(Text, parts)
        self._close_block(parts)
        content = usage_or_estimate(event.usage, self._input_tokens, self._output_bytes, to_usage)
        delta = {"stop_reason": event.stop_reason, "stop_sequence": event.stop_sequence}
        data = orjson.dumps({"type": "message_delta", "delta": delta, "usage": content})
        parts.append(b"event: message_delta\ndata: %s\n\n" % data)
        parts.append(STOP)


def to_terminal(run: Run, number: int, error: RunError) -> Chunk:
    """The end of a run that has none of its own."""
    return Chunk(number, 1, sse.frame(orjson.dumps(to_error(error.code, error.message, {}, run.request_id)), event=b"error"))
