"""Claude Code's ``--output-format stream-json``, with or without ``--include-partial-messages`` (recordings/claude).

Its traps, and what is done about them:
- With partial messages every block comes as deltas *and again* in an ``assistant`` line: text is taken from the deltas of
  a message where there are any, else from its lines; tool calls always from the lines, where their input is whole.
- ``result.result`` repeats the last text. It is used only when there was none.
- An API error looks like an answer: an ``assistant`` line of the model ``<synthetic>`` and ``subtype: success``. The
  synthetic text is held back until ``result.is_error`` says what it is (false: what a local command printed).
- ``assistant.message.usage`` is that of the message's start; the turn's is ``result.usage``, but zero where a fault or a
  budget ended the turn, and then ``modelUsage`` has it.
- ``result.permission_denials`` names the calls that were refused, not why: that is in their tool results (claude/perm-denied).
- A subagent's messages (``parent_tool_use_id``) are its own affair: its tool calls are shown, its text is not the answer.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from services.clis.claude.answer import Answer
from services.clis.claude.plan import to_plan_update
from services.clis.claude.usage import result_usage, to_usage
from services.decoding.decoder import Exit
from services.decoding.exit_messages import ended_without_result, finished, with_denials
from services.decoding.fields import count_of, flat_text, list_of, map_of, number_of, text_of, to_json
from services.decoding.lines import JsonLines
from services.decoding.replay import DIFFERS
from services.events import Batch, Denial, Failed, Retrying, Started, StopReason, Thinking, ToolCall, ToolResult, UsageUpdate
from services.failure_kinds import classify, human
from services.usage import Usage

STOP_REASONS: dict[str, StopReason] = {
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "refusal",
}
"""What is not here (end_turn, tool_use, stop_sequence, null) is ``end_turn``."""

# CLAUDE_CODE_MAX_OUTPUT_TOKENS is reached: Claude Code lets the model go on three more times and then calls it an error,
# but all its text was an answer (recordings claude/max-tokens).
OUTPUT_LIMIT = re.compile(r"exceeded the \d+ output token maximum")

STRUCTURED_OUTPUT = "StructuredOutput"
"""The tool through which the model hands in its answer to ``--json-schema``: not a tool of the agent's."""


class TextDelta(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class ThinkingDelta(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    thinking: str


class BlockDelta(msgspec.Struct, tag_field="type", tag="content_block_delta", gc=False):
    delta: TextDelta | ThinkingDelta


class DeltaLine(msgspec.Struct, tag_field="type", tag="stream_event", gc=False):
    event: BlockDelta
    parent_tool_use_id: None = None


# Nine lines in ten are of this shape. Decoded as it they cost a third of what they cost as dicts (0.4 µs instead of 1.2);
# what does not fit, a subagent's delta too, is decoded as any other line.
DELTA_LINE = msgspec.json.Decoder(DeltaLine)


class ClaudeDecoder:
    def __init__(self) -> None:
        self._lines = JsonLines()
        self._result: dict[str, Any] | None = None
        self._has_begun = False
        self._answer = Answer()
        self._streamed: set[str] = set()  # ids of the messages that came as deltas
        self._has_worked = False
        self._held = ""  # synthetic text, which may be an error
        self._error_code = ""
        self._retried = ""  # why it asks the model API again, in case it never comes to more
        self._hidden_tools: set[str] = set()
        self._errors: dict[str, str] = {}  # what failed tool calls of this turn said, by id
        self._usage = Usage()  # of the whole messages so far
        self._message_usage = Usage()

    @property
    def is_complete(self) -> bool:
        return self._result is not None

    def feed(self, chunk: bytes) -> Batch:
        batch: Batch = []
        for line in self._lines.split(chunk):
            self._on_bytes(line, batch)
        self._has_begun = self._has_begun or bool(batch)
        return batch

    def finish(self, exit: Exit) -> Batch:
        batch: Batch = []
        for line in self._lines.flush():
            self._on_line(line, batch)
        result = self._result
        if result is None:
            batch.append(ended_without_result(exit, self._held or self._retried or self._lines.noise, usage=self._usage_so_far()))
        elif result.get("is_error") and not OUTPUT_LIMIT.search(text_of(result.get("result"))):
            batch.append(self._failed(result, exit))
        else:
            self._succeed(result, exit, batch)
        return with_denials(batch, self._denials())

    def _on_bytes(self, line: bytes, batch: Batch) -> None:
        try:
            delta = DELTA_LINE.decode(line).event.delta
        except msgspec.MsgspecError:
            if (value := self._lines.to_object(line)) is not None:
                self._on_line(value, batch)
            return
        if type(delta) is TextDelta:
            self._answer.say(delta.text, batch, is_partial=True)
        elif type(delta) is ThinkingDelta and delta.thinking:
            batch.append(Thinking(delta.thinking))

    def _on_line(self, line: dict[str, Any], batch: Batch) -> None:
        match line.get("type"):
            case "stream_event":
                if line.get("parent_tool_use_id") is None:
                    self._on_stream_event(map_of(line.get("event")), batch)
            case "assistant":
                self._on_assistant(line, batch)
            case "user":
                self._on_user(line, batch)
            case "system":
                # Every further turn of the process has its own (warm-basic).
                if line.get("subtype") == "init" and not self._has_begun and not batch:
                    batch.append(Started(text_of(line.get("session_id")) or None, text_of(line.get("model")) or None))
                elif line.get("subtype") == "api_retry":
                    self._on_retry(line, batch)
            case "rate_limit_event":
                batch.append(to_plan_update(map_of(line.get("rate_limit_info"))))
            case "result":
                self._result = line

    def _on_retry(self, line: dict[str, Any], batch: Batch) -> None:
        status, error = count_of(line.get("error_status")), text_of(line.get("error"))
        said = f"{f'API Error: {status} ' if status else ''}({error})"
        self._retried = f"{said}, tried {count_of(line.get('attempt'))} times"
        batch.append(Retrying(classify(said, status or None), said))

    # -- the answer as it grows: deltas --

    def _on_stream_event(self, event: dict[str, Any], batch: Batch) -> None:
        match event:
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
                self._answer.say(text, batch, is_partial=True)
            case {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": str(text)}} if text:
                batch.append(Thinking(text))
            case {"type": "content_block_start", "content_block": {"type": "text", **block}}:
                self._answer.open_block()
                self._answer.say(text_of(block.get("text")), batch, is_partial=True)
            case {"type": "message_start", "message": dict(message)}:
                self._answer.open_message()
                self._streamed.add(text_of(message.get("id")))
                self._message_usage = to_usage(map_of(message.get("usage"))) or Usage()
                self._tell_usage(batch)
            case {"type": "message_delta", "usage": dict(usage)}:
                self._message_usage = to_usage(usage) or self._message_usage
                self._tell_usage(batch)
            case {"type": "message_stop"}:
                self._answer.close_message()
                self._usage, self._message_usage = self._usage + self._message_usage, Usage()

    def _tell_usage(self, batch: Batch) -> None:
        if usage := self._usage_so_far():
            batch.append(UsageUpdate(usage))

    # -- whole messages --

    def _on_assistant(self, line: dict[str, Any], batch: Batch) -> None:
        message = map_of(line.get("message"))
        is_answer = line.get("parent_tool_use_id") is None
        if message.get("model") == "<synthetic>":
            if is_answer:
                self._held = flat_text(message.get("content"))
                self._error_code = text_of(line.get("error"))
            return
        has_streamed = text_of(message.get("id")) in self._streamed
        for block in list_of(message.get("content")):
            match block:
                case {"type": "tool_use", "id": str(id), "name": str(name)}:
                    self._on_tool_use(id, name, block.get("input"), batch)
                case {"type": "text", "text": str(text)} if is_answer and not has_streamed:
                    self._answer.say_whole(text, batch)
                case {"type": "thinking", "thinking": str(text)} if is_answer and not has_streamed and text:
                    batch.append(Thinking(text))

    def _on_tool_use(self, id: str, name: str, input: Any, batch: Batch) -> None:
        self._has_worked = True
        if name == STRUCTURED_OUTPUT:
            self._hidden_tools.add(id)
        else:
            batch.append(ToolCall(id, name, input))

    def _on_user(self, line: dict[str, Any], batch: Batch) -> None:
        for block in list_of(map_of(line.get("message")).get("content")):
            match block:
                case {"type": "tool_result", "tool_use_id": str(id)} if id not in self._hidden_tools:
                    result = ToolResult(id, flat_text(block.get("content")), block.get("is_error") is True)
                    if result.is_error:
                        self._errors[id] = result.output
                    batch.append(result)

    # -- the end --

    def _succeed(self, result: dict[str, Any], exit: Exit, batch: Batch) -> None:
        structured = result.get("structured_output")
        stop = STOP_REASONS.get(text_of(result.get("stop_reason")), "end_turn")
        if result.get("is_error"):
            stop = "max_tokens"
        else:
            for text in self._untold(text_of(result.get("result")), structured):
                self._answer.say_whole(text, batch)
        usage, cost = result_usage(result) or self._usage_so_far(), number_of(result.get("total_cost_usd"))
        if self._answer.differs:
            batch.append(Failed("backend", DIFFERS, exit.code, usage, cost))
        elif stop == "end_turn" and not self._answer.has_text and not self._has_worked:
            batch.append(Failed("backend", "Claude Code finished without an answer", exit.code, usage, cost))
        else:
            batch.append(finished(exit, stop, usage, cost, structured))

    def _untold(self, repeated: str, structured: Any) -> list[str]:
        """What belongs to the answer and came in no message: a local command's output, the JSON of a schema."""
        texts = [self._held]
        if structured is not None:
            if not any(_is_json_of(structured, block) for block in self._answer.blocks):
                texts.append(to_json(structured))
        elif not self._answer.has_text and not self._held:
            texts.append(repeated)
        return [text for text in texts if text]

    def _failed(self, result: dict[str, Any], exit: Exit) -> Failed:
        errors = [text for error in list_of(result.get("errors")) if (text := text_of(error)) and not text.startswith("[ede_diagnostic]")]
        message = human(text_of(result.get("result")) or "\n".join(errors) or self._held) or _name(result)
        status = count_of(result.get("api_error_status")) or None
        return Failed(
            kind=classify(f"{message} ({self._error_code})", status),
            message=message,
            exit_code=exit.code,
            usage=result_usage(result) or self._usage_so_far(),
            cost_usd=number_of(result.get("total_cost_usd")),
        )

    def _denials(self) -> list[Denial]:
        """What this turn was refused. A process that serves several turns may name the calls of earlier ones too."""
        told = list_of(map_of(self._result).get("permission_denials"))
        calls = [(text_of(map_of(call).get("tool_name")), text_of(map_of(call).get("tool_use_id"))) for call in told]
        return [Denial(name, self._errors[id]) for name, id in calls if id in self._errors]

    def _usage_so_far(self) -> Usage | None:
        usage = self._usage + self._message_usage
        return usage if usage != Usage() else None


def _name(result: dict[str, Any]) -> str:
    match text_of(result.get("terminal_reason")), text_of(result.get("subtype")):
        case (("aborted_streaming" | "aborted_tools"), _):
            return "the run was interrupted"
        case _, subtype:
            return f"Claude Code failed ({subtype or 'no reason given'})"


def _is_json_of(value: Any, block: list[str]) -> bool:
    try:
        told: Any = orjson.loads("".join(block))
    except orjson.JSONDecodeError:
        return False
    return bool(told == value)
