"""Talking to `claude -p --input-format=stream-json`, which may have been started long before it is asked. Pure: bytes in, events
and bytes out (recordings claude/…/warm-*; claude 2.1.197). Its stdin must be a pipe: from a file it reads nothing (exit 0, no output).

A process is silent until it is spoken to, and most of its 0.45 s go by then. So it is asked something harmless when it is
started: the answer says that it is up, and that it speaks this protocol. System prompt and schema travel with ``initialize``,
of which only the first counts; a process may have had it beforehand, and then only fits runs that have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.clis.claude.decoder import ClaudeDecoder
from services.clis.claude.spec import encode_message
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.decoding.fields import list_of, map_of, number_of, text_of
from services.decoding.lines import JsonLines
from services.events import Batch, Failed


def control(request_id: str, subtype: str, **more: Any) -> bytes:
    request = {"type": "control_request", "request_id": request_id, "request": {"subtype": subtype, **more}}
    return orjson.dumps(request) + b"\n"


def initialize(request_id: str, parameters: Mapping[str, Any]) -> bytes:
    return control(request_id, "initialize", hooks=None, **parameters)


INTERRUPT = control("interrupt", "interrupt")
READY = "mcp_status"
"""Is answered before ``initialize`` as well, and changes nothing."""


class Greeting:
    """What is said to a process when it has been started: is it up, and, with ``parameters``, is it initialised."""

    is_silent = False

    def __init__(self, parameters: Mapping[str, Any] | None) -> None:
        self.is_initialize = parameters is not None
        self.is_answered = False
        self.refusal = ""
        self._outgoing = control("greeting", READY) if parameters is None else initialize("greeting", parameters)
        self._lines = JsonLines()

    def take_outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def feed(self, chunk: bytes) -> None:
        for line in self._lines.feed(chunk):
            if response := response_to("greeting", line):
                self.is_answered = True
                self.refusal = refusal_of(response)


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


class ClaudeStream(ClaudeDecoder):
    """One turn; a `services.execution.driver.Conversation` that is `Lasting`. What is asked goes out when all that must be set has
    been set."""

    def __init__(
        self,
        invocation: Invocation,
        *,
        is_initialized: bool,
        is_pressing: bool = False,
        before: Mapping[str, Any] | None = None,
    ) -> None:
        """``is_pressing``: the question goes out with ``initialize``, which a process that is only starting takes in their order.
        ``before``: the last line of the turn before this one in the same process, for it counts on from there."""
        super().__init__()
        self.session_id = ""
        self._before = before or {}
        self._last_line: dict[str, Any] = {}
        self._last_uuid = ""
        self._is_answered = False
        self._is_settled = True
        self._question = encode_message(invocation.stdin.decode(), invocation.request.images)
        self._refusal = ""
        self._outgoing = self._question if is_initialized else initialize("initialize", parameters_of(invocation))
        if is_pressing and not is_initialized:
            self._outgoing, self._question = self._outgoing + self._question, b""

    @property
    def is_complete(self) -> bool:
        return bool(self._refusal) or super().is_complete

    @property
    def has_broken(self) -> bool:
        """Not once the model has begun to answer: a tool is what may come next."""
        return bool(self._refusal) or not (super().is_complete or self._is_answered)

    @property
    def last_word(self) -> str:
        """Each line of a message has an id, which it also has in the session's file (claude 2.1.197)."""
        is_good = self._last_line.get("subtype") == "success" and not self._last_line.get("is_error")
        return self._last_uuid if is_good and self._is_settled else ""

    def next(self, invocation: Invocation) -> ClaudeStream:
        return ClaudeStream(invocation, is_initialized=True, before=self._last_line)

    def feed(self, chunk: bytes) -> Batch:
        was_over = bool(self._last_line)
        batch = super().feed(chunk)
        if self._last_line and (was_over or not _is_end(chunk)):
            self._is_settled = False
        return [] if self._refusal else batch  # what it says then is not what it was asked

    def take_outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def interrupt(self) -> bytes:
        return INTERRUPT

    def finish(self, exit: Exit) -> Batch:
        batch = super().finish(exit)
        return [Failed("backend", f"Claude Code refused to be set up: {self._refusal}", exit.code)] if self._refusal else batch

    def _on_line(self, line: dict[str, Any], batch: Batch) -> None:
        match line.get("type"):
            case "control_response":
                if response := response_to("initialize", line):
                    self._refusal = refusal_of(response)
                    self._outgoing += b"" if self._refusal else self._question
            case "control_request":
                self._outgoing += _declined(line)
            case "result":
                self._last_line = line
                super()._on_line(own_part(line, self._before), batch)
            case kind:
                self._is_answered = self._is_answered or kind in ("stream_event", "assistant")
                self._follow(kind, line)
                super()._on_line(line, batch)

    def _follow(self, kind: object, line: Mapping[str, Any]) -> None:
        """Note what must be known to keep the process."""
        if kind == "system" and line.get("subtype") == "init":
            self.session_id = text_of(line.get("session_id"))
        elif kind in ("assistant", "user"):
            blocks = [map_of(block) for block in list_of(map_of(line.get("message")).get("content"))]
            used = [block for block in blocks if block.get("type") == "tool_use"]
            if any(text_of(tool.get("name")) not in SETTLED_TOOLS or map_of(tool.get("input")).get("run_in_background") for tool in used):
                self._is_settled = False
            if line.get("parent_tool_use_id") is None:
                self._last_uuid = text_of(line.get("uuid"))


def begin(invocation: Invocation) -> ClaudeStream:
    """As fast as the plain CLI (measured): nothing is waited for."""
    return ClaudeStream(invocation, is_initialized=not parameters_of(invocation), is_pressing=True)


def parameters_of(invocation: Invocation) -> dict[str, Any]:
    """What ``initialize`` carries for this run."""
    return dict(invocation.fields.get("initialize", {}))


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
    """Nobody is there to be asked."""
    response = {"subtype": "error", "request_id": text_of(line.get("request_id")), "error": "this client answers no requests"}
    return orjson.dumps({"type": "control_response", "response": response}) + b"\n"
