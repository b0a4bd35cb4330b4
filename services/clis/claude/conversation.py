"""The protocol of `claude -p --input-format=stream-json`, for a process of any age. Sans-IO (recordings claude/…/warm-*;
claude 2.1.197). Its stdin must be a pipe: from a file it reads nothing (exit 0, no output).

A process writes nothing before its first message, and most of its 0.45 s pass after that. So the handshake is a harmless request:
the answer shows that the process is up, and that it speaks this protocol. System prompt and schema travel with ``initialize``,
of which only the first counts; a process that was initialized early serves only runs with the same parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.clis.claude.decoder import ClaudeDecoder
from services.clis.claude.messages import to_lines
from services.clis.conversation import Conversation, Handshake
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.decoding.fields import list_of, map_of, number_of, text_of
from services.decoding.lines import JsonLines
from services.events import Batch, Failed
from services.history import goes_on_after_calls


def control(request_id: str, subtype: str, **more: Any) -> bytes:
    request = {"type": "control_request", "request_id": request_id, "request": {"subtype": subtype, **more}}
    return orjson.dumps(request) + b"\n"


def initialize(request_id: str, parameters: Mapping[str, Any]) -> bytes:
    return control(request_id, "initialize", hooks=None, **parameters)


INTERRUPT = control("interrupt", "interrupt")
NO_THINKING = control("thinking", "set_max_thinking_tokens", max_thinking_tokens=0)
READY = "mcp_status"
"""Is answered before ``initialize`` as well, and changes nothing."""
SNAPSHOT = "systemPromptSnapshot"


class ClaudeHandshake(Handshake):
    """Shows that a process is up; with ``parameters`` it is initialized as well."""

    def __init__(self, parameters: Mapping[str, Any] | None) -> None:
        self.is_initialize = parameters is not None
        self._outgoing = control("handshake", READY) if parameters is None else initialize("handshake", parameters)
        self._lines = JsonLines()

    def outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def receive(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            if response := response_to("handshake", line):
                self.is_complete = True
                self.refusal = refusal_of(response)

    def next(self, invocation: Invocation) -> ClaudeConversation:
        return ClaudeConversation(invocation, is_initialized=self.is_initialize)


def response_to(request_id: str, line: Mapping[str, Any]) -> dict[str, Any] | None:
    response = map_of(line.get("response")) if line.get("type") == "control_response" else {}
    return response if response.get("request_id") == request_id else None


def refusal_of(response: Mapping[str, Any]) -> str:
    """Why the CLI did not do what it was asked; empty where it did."""
    return "" if response.get("subtype") == "success" else text_of(response.get("error")) or "refused without a reason"


SETTLED_TOOLS = {
    "Bash", "Edit", "ExitPlanMode", "Glob", "Grep", "LS", "MultiEdit", "NotebookEdit", "Read", "StructuredOutput", "TodoWrite",
    "ToolSearch", "WebFetch", "WebSearch", "Write",
}  # fmt: skip
"""Are over when they have answered. Any other may have begun what goes on without the model: an agent, a watch, an appointment."""


class ClaudeConversation(ClaudeDecoder, Conversation):
    """One turn. The messages are sent right behind ``initialize``, which a process takes in order: waiting for its answer would cost time.

    Of a longer conversation each message waits until those before it have been taken.
    """

    def __init__(self, invocation: Invocation, *, is_initialized: bool = False, before: Mapping[str, Any] | None = None) -> None:
        """``before``: the result line of the previous turn in the same process, for its totals continue."""
        super().__init__()
        self.session_id = ""
        self._invocation = invocation
        self._before = before or {}
        self._last_line: dict[str, Any] = {}
        self._last_uuid = ""
        self._is_answered = False
        self._is_settled = True
        self._refusal = ""
        self._outgoing = b""
        self._unsent = to_lines(invocation.messages)
        self._has_sent_all = False
        self._thinks = not goes_on_after_calls(invocation.messages)
        if (parameters := invocation.fields.get("initialize")) and not is_initialized:
            self._outgoing += initialize("initialize", parameters)
        if not self._thinks:
            self._outgoing += NO_THINKING
        self._tell()

    @property
    def is_complete(self) -> bool:
        return bool(self._refusal) or super().is_complete

    @property
    def is_retryable(self) -> bool:
        """Not once the model has begun to answer: a tool may run next."""
        return bool(self._refusal) or not (super().is_complete or self._is_answered)

    @property
    def checkpoint(self) -> str:
        """Each line of a message has an id, which the session's file contains as well (claude 2.1.197)."""
        is_good = self._last_line.get("subtype") == "success" and not self._last_line.get("is_error")
        return self._last_uuid if is_good and self._is_settled and self._thinks else ""

    def next(self, invocation: Invocation) -> ClaudeConversation:
        return ClaudeConversation(invocation, is_initialized=True, before=self._last_line)

    def receive(self, data: bytes) -> Batch:
        was_over = bool(self._last_line)
        batch = self.feed(data)
        if self._last_line and (was_over or not _is_end(data)):
            self._is_settled = False
        return [] if self._refusal else batch  # without its setup it answers something else

    def outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def interrupt(self) -> bytes:
        return INTERRUPT

    def finish(self, exit: Exit) -> Batch:
        batch = super().finish(exit)
        return [self._refused(exit)] if self._refusal else batch

    def _refused(self, exit: Exit) -> Failed:
        installed, supported = self._invocation.cli_version, self._invocation.spec.versions
        name = f"Claude Code {installed}" if installed else "Claude Code"
        advice = f"; install a version from {supported.oldest} to {supported.newest}" if supported else ""
        return Failed("backend", f"{name} refused to be set up: {self._refusal}{advice}", exit.code)

    def _on_line(self, line: dict[str, Any], batch: Batch) -> None:
        match line.get("type"):
            case "control_response":
                if response := response_to("initialize", line) or response_to("thinking", line):
                    self._refusal = self._refusal or refusal_of(response)
            case "control_request":
                self._outgoing += _declined(line)
            case "result" if not (self._has_sent_all or line.get("is_error")):
                self._tell()
            case "stream_event" if not self._has_sent_all:
                self._refusal = "it answers every message of the conversation instead of the last one"
            case "result":
                self._last_line = line
                super()._on_line(own_part(line, self._before), batch)
            case kind:
                self._is_answered = self._is_answered or kind in ("stream_event", "assistant")
                self._follow(kind, line)
                super()._on_line(line, batch)

    def _tell(self) -> None:
        """Send what may be sent before the CLI says more."""
        for line, is_confirmed in self._unsent:
            self._outgoing += line
            if is_confirmed:
                return
        self._has_sent_all = True

    def _follow(self, kind: object, line: Mapping[str, Any]) -> None:
        """Note what decides whether the process can be kept."""
        if kind == "system" and line.get("subtype") == "init":
            self.session_id = text_of(line.get("session_id"))
        elif kind in ("assistant", "user"):
            blocks = [map_of(block) for block in list_of(map_of(line.get("message")).get("content"))]
            used = [block for block in blocks if block.get("type") == "tool_use"]
            if any(text_of(tool.get("name")) not in SETTLED_TOOLS or map_of(tool.get("input")).get("run_in_background") for tool in used):
                self._is_settled = False
            if line.get("parent_tool_use_id") is None:
                self._last_uuid = text_of(line.get("uuid"))


def parameters_of(invocation: Invocation) -> dict[str, Any]:
    """What ``initialize`` sets for the life of a process. Whether the session's first system prompt counts matters at its start alone."""
    return {name: value for name, value in invocation.fields.get("initialize", {}).items() if name != SNAPSHOT}


def _is_end(chunk: bytes) -> bool:
    """Whether the last line is all that is in these bytes from where it begins."""
    tail = chunk.rpartition(b'"type":"result"')[2]
    return tail.endswith(b"\n") and tail.count(b"\n") == 1


def own_part(line: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The last line of a turn with what that turn alone has cost: ``total_cost_usd`` and ``modelUsage`` are the process's, while
    ``usage`` is the turn's own (recordings claude/…/warm-control)."""
    if not before:
        return line
    models = map_of(before.get("modelUsage"))
    own = {name: _less(map_of(part), map_of(models.get(name))) for name, part in map_of(line.get("modelUsage")).items()}
    return _less(line, before) | {"modelUsage": own}


COUNTED = ("total_cost_usd", "inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")


def _less(total: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """``total`` with what is `COUNTED` in it made less by what it was ``before``."""
    counts = {name: count for name in COUNTED if (count := number_of(total.get(name))) is not None}
    return {**total, **{name: round(count - (number_of(before.get(name)) or 0), 9) for name, count in counts.items()}}


def _declined(line: Mapping[str, Any]) -> bytes:
    """Nobody can answer a request of the CLI's."""
    response = {"subtype": "error", "request_id": text_of(line.get("request_id")), "error": "this client answers no requests"}
    return orjson.dumps({"type": "control_response", "response": response}) + b"\n"
