"""Talking to `claude -p --input-format=stream-json`, which may have been started long before it is asked. Pure: bytes in, events
and bytes out (recordings claude/…/warm-*; claude 2.1.197).

A process is silent until it is spoken to, and most of its 0.45 s go by then. So it is asked something harmless when it is
started: the answer says that it is up, and that it speaks this protocol. System prompt and schema travel with ``initialize``,
of which only the first counts; a process may have had it beforehand, and then only fits runs that have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.backends.claude import encode_message
from services.backends.spec import Invocation
from services.decoders.claude import ClaudeDecoder
from services.decoders.decoder import Exit
from services.decoders.fields import map_of, text_of
from services.decoders.lines import JsonLines
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


class ClaudeStream(ClaudeDecoder):
    """One turn; a `services.drivers.driver.Conversation`. What is asked goes out when all that must be set has been set."""

    def __init__(self, invocation: Invocation, *, is_initialized: bool) -> None:
        super().__init__()
        self._question = encode_message(invocation.stdin.decode(), invocation.request.images)
        self._refusal = ""
        self._outgoing = self._question if is_initialized else initialize("initialize", parameters_of(invocation))

    @property
    def is_complete(self) -> bool:
        return bool(self._refusal) or super().is_complete

    @property
    def has_broken(self) -> bool:
        return bool(self._refusal) or not super().is_complete

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
            case _:
                super()._on_line(line, batch)


def parameters_of(invocation: Invocation) -> dict[str, Any]:
    """What ``initialize`` carries for this run."""
    return dict(invocation.fields.get("initialize", {}))


def _declined(line: Mapping[str, Any]) -> bytes:
    """Nobody is there to be asked."""
    response = {"subtype": "error", "request_id": line.get("request_id"), "error": "this client answers no requests"}
    return orjson.dumps({"type": "control_response", "response": response}) + b"\n"
