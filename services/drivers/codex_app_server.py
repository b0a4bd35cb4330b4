"""Talking to `codex app-server`: JSON-RPC lines without a ``jsonrpc`` member. The only way to token deltas from Codex.

Pure: bytes in, events and bytes out. The order of requests, as captured from codex 0.169.0 (tests/recordings/codex/…/warm-appserver-*):
initialize → initialized → thread/start | thread/resume → turn/start → notifications … → turn/completed.
"""

from __future__ import annotations

import base64
from typing import Any

import orjson

from services.backends.spec import Invocation
from services.decoders.codex_app_server import CodexAppServerDecoder, to_usage
from services.decoders.decoder import Exit
from services.decoders.lines import LineSplitter, to_object
from services.events import Batch, Failed, Started
from services.failures import classify
from services.run import Usage

CLIENT = {"name": "clinvk", "title": None, "version": "1"}

# With a policy that asks, the server asks its client. Nobody is there to be asked, so the answer is no.
DECLINED = {"decision": "decline"}


class CodexAppServer:
    """One turn of one thread in an app-server of its own; a `services.drivers.driver.Conversation`."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation
        self._lines = LineSplitter()
        self._outgoing: list[dict[str, Any]] = []
        self._handlers = {1: self._on_initialized, 2: self._on_thread, 3: self._on_turn}
        self._thread_id = ""
        self._turn: CodexAppServerDecoder | None = None
        self._usage_before = Usage()
        self._failure: Failed | None = None
        self._send({"id": 1, "method": "initialize", "params": {"clientInfo": CLIENT}})

    @property
    def is_complete(self) -> bool:
        return self._failure is not None or (self._turn is not None and self._turn.is_complete)

    def feed(self, chunk: bytes) -> Batch:
        batch: Batch = []
        for line in self._lines.feed(chunk):
            message = to_object(line)
            if message is not None and not self.is_complete:
                batch += self._receive(message)
        return batch

    def finish(self, exit: Exit) -> Batch:
        if self._failure:
            return [self._failure]
        if self._turn:
            return self._turn.finish(exit)
        said = exit.stderr_tail.strip()
        return [Failed(classify(said), said or "codex app-server ended before the turn began", exit.code)]

    def take_outgoing(self) -> bytes:
        outgoing, self._outgoing = self._outgoing, []
        return b"".join(orjson.dumps(message) + b"\n" for message in outgoing)

    def _send(self, message: dict[str, Any]) -> None:
        self._outgoing.append(message)

    def _receive(self, message: dict[str, Any]) -> Batch:
        method, number = message.get("method"), message.get("id")
        if method is None:
            handler = self._handlers.get(number) if isinstance(number, int) else None
            if error := message.get("error"):
                said = str(error.get("message", error))
                self._failure = Failed(classify(said), said, exit_code=1)
                return []
            return handler(message.get("result") or {}) if handler else []
        if number is not None:
            self._decline(method, number)
            return []
        return self._notified(method, message.get("params") or {})

    def _notified(self, method: str, params: dict[str, Any]) -> Batch:
        if self._turn is None and method == "thread/tokenUsage/updated":
            # After thread/resume, and before our turn: what the thread has used so far.
            self._usage_before = to_usage(params["tokenUsage"]["total"])
        if self._turn is None and method == "turn/started" and params.get("threadId") == self._thread_id:
            self._begin_turn(params["turn"]["id"])
        return self._turn.notification(method, params) if self._turn else []

    def _decline(self, method: str, number: Any) -> None:
        if method.endswith("/requestApproval"):
            self._send({"id": number, "result": DECLINED})
        else:
            self._send({"id": number, "error": {"code": -32601, "message": f"{method} is not supported by this client"}})

    def _on_initialized(self, _: dict[str, Any]) -> Batch:
        request, fields = self._invocation.request, self._invocation.fields
        params: dict[str, Any] = {"cwd": self._invocation.cwd, **fields.get("thread", {})}
        self._send({"method": "initialized"})
        if request.resume:
            self._send({"id": 2, "method": "thread/resume", "params": {**params, "threadId": request.resume, "excludeTurns": True}})
        else:
            self._send({"id": 2, "method": "thread/start", "params": {**params, "ephemeral": request.ephemeral}})
        return []

    def _on_thread(self, result: dict[str, Any]) -> Batch:
        self._thread_id = result["thread"]["id"]
        request = self._invocation.request
        content: list[dict[str, Any]] = [
            {"type": "image", "url": f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"} for image in request.images
        ]
        content.append({"type": "text", "text": self._invocation.stdin.decode()})
        params = {"threadId": self._thread_id, "input": content, **self._invocation.fields.get("turn", {})}
        self._send({"id": 3, "method": "turn/start", "params": params})
        return [Started(None if request.ephemeral else self._thread_id, result.get("model"))]

    def _on_turn(self, result: dict[str, Any]) -> Batch:
        self._begin_turn(result["turn"]["id"])
        return []

    def _begin_turn(self, turn_id: str) -> None:
        if self._turn is None:
            self._turn = CodexAppServerDecoder(self._thread_id, turn_id, self._usage_before)
