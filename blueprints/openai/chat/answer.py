"""A run's events → chat completion chunks; a run's result → one completion. Pure.

Grammar of a stream: a chunk with ``delta.role``, chunks with text, one with ``finish_reason``, with ``include_usage`` one with
``choices: []``, then ``[DONE]``. A failure is one ``data: {"error": …}`` without ``[DONE]``, which would mark the stream complete.
The CLI's own tool calls are not sent: ``tool_calls`` would request the client to run them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import orjson

from blueprints import sse
from blueprints.compat.estimate import usage_or_estimate
from blueprints.openai.errors import to_error
from blueprints.openai.usage import to_chat_usage
from services.events import Batch, Failed, Finished, StopReason, Text, Thinking
from services.requests import RunResult
from services.runs.record import Chunk, Run, RunError
from services.usage import Usage

FINISH_REASONS: dict[StopReason, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "refusal": "content_filter",
}

DONE = b"data: [DONE]\n\n"


def new_completion_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


class ChunkEncoder:
    """Encodes one response's chunks. ``prompt_tokens``: the estimate reported if the CLI reports no usage."""

    def __init__(self, model: str, *, include_usage: bool, prompt_tokens: int, to_error: Callable[[Failed], dict[str, Any]]) -> None:
        facts = {"id": new_completion_id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
        self._facts = orjson.dumps(facts)[:-1]
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        start = b'data: %s,"choices":[{"index":0,"delta":' % self._facts
        end = b',"logprobs":null,"finish_reason":null}]' + self._tail
        self._text = start + b'{"content":', b"}" + end
        self._thinking = start + b'{"reasoning_content":', b"}" + end
        self._role = start + b'{"role":"assistant","content":"","refusal":null}' + end
        self._include_usage = include_usage
        self._prompt_tokens = prompt_tokens
        self._to_error = to_error
        self._has_begun = False
        self._output_bytes = 0

    def __call__(self, batch: Batch) -> bytes:
        parts = []
        if batch and not self._has_begun and not isinstance(batch[0], Failed):
            self._has_begun = True
            parts.append(self._role)
        for event in batch:
            match event:
                case Text() if event.text:
                    text = orjson.dumps(event.text)
                    self._output_bytes += len(text) - 2
                    parts += (self._text[0], text, self._text[1])
                case Thinking() if event.text:
                    parts += (self._thinking[0], orjson.dumps(event.text), self._thinking[1])
                case Finished():
                    parts += self._end(event)
                case Failed():
                    parts.append(sse.frame(orjson.dumps(self._to_error(event))))
        return b"".join(parts) or sse.KEEP_ALIVE

    def _end(self, event: Finished) -> list[bytes]:
        reason = FINISH_REASONS[event.stop_reason].encode()
        choice = b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"%s"}' % reason
        parts = [b'data: %s,"choices":[%s]%s' % (self._facts, choice, self._tail)]
        if self._include_usage:
            content = usage_or_estimate(event.usage, self._prompt_tokens, self._output_bytes, to_chat_usage)
            parts.append(b'data: %s,"choices":[],"usage":%s}\n\n' % (self._facts, orjson.dumps(content)))
        return [*parts, DONE]


def to_terminal(run: Run, number: int, error: RunError) -> Chunk:
    """The end of a run that has none of its own."""
    return Chunk(number, 1, sse.frame(orjson.dumps(to_error(error.code, error.message, {}))))


def to_completion(result: RunResult, usage: Usage, *, model: str) -> dict[str, Any]:
    """A non-streamed response."""
    message: dict[str, Any] = {"role": "assistant", "content": result.output, "refusal": None, "annotations": []}
    if result.thinking:
        message["reasoning_content"] = result.thinking
    reason = FINISH_REASONS[result.stop_reason or "end_turn"]  # type: ignore[index]
    return {
        "id": new_completion_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": to_chat_usage(usage),
    }
