"""The protocol of `codex app-server`: JSON-RPC lines without a ``jsonrpc`` member. The only way to token deltas from Codex.

Sans-IO. One process carries many turns at once, each in a thread of its own; the request's number or the thread's id says whose a
message is. The connection begins with initialize → initialized.
"""

from __future__ import annotations

from typing import Any

import orjson

from services.clis.codex.plan import METHOD as PLAN
from services.clis.codex.plan import to_plan_update
from services.clis.codex.turn import CodexTurn
from services.clis.conversation import Conversation
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.decoding.fields import map_of, text_of
from services.decoding.lines import LineSplitter, to_object
from services.events import Batch

CLIENT = {"name": "clinvk", "title": None, "version": "1"}

# With a policy that asks, the server asks its client. Nobody can decide here, so the answer is no.
DECLINED = {"decision": "decline"}

Received = tuple[CodexTurn, Batch, bytes]
"""The events of a line, for the turn that they belong to."""


class CodexConnection:
    """The connection to one app-server."""

    def __init__(self) -> None:
        self.is_ready = False
        self.refusal = ""
        """Why the server did not take ``initialize``."""
        self._lines = LineSplitter()
        self._outgoing: list[dict[str, Any]] = []
        self._number = 0
        self._awaited: dict[int, tuple[CodexTurn | None, str]] = {}
        self._turns: list[CodexTurn] = []
        self._ask(None, "initialize", {"clientInfo": CLIENT})

    def add(self, turn: CodexTurn) -> None:
        self._turns.append(turn)
        if self.is_ready:
            turn.begin()

    def drop(self, turn: CodexTurn) -> None:
        """Route nothing to ``turn`` any more; its thread may be unloaded."""
        self._turns.remove(turn)
        self._awaited = {number: (whose, method) for number, (whose, method) in self._awaited.items() if whose is not turn}
        if turn.has_thread and turn.is_ephemeral:
            self._ask(None, "thread/unsubscribe", {"threadId": turn.thread_id})

    def receive(self, data: bytes) -> list[Received]:
        received: list[Received] = []
        for line in self._lines.feed(data):
            message = to_object(line)
            if message is not None:
                received += ((turn, batch, line) for turn, batch in self._receive(message))
        return received

    def outgoing(self) -> bytes:
        for turn in self._turns:
            for method, params in turn.take_requests():
                self._ask(turn, method, params)
        outgoing, self._outgoing = self._outgoing, []
        return b"".join(orjson.dumps(message) + b"\n" for message in outgoing)

    def _ask(self, turn: CodexTurn | None, method: str, params: dict[str, Any]) -> None:
        self._number += 1
        self._awaited[self._number] = (turn, method)
        self._outgoing.append({"id": self._number, "method": method, "params": params})

    def _receive(self, message: dict[str, Any]) -> list[tuple[CodexTurn, Batch]]:
        method, number = message.get("method"), message.get("id")
        if method is None:
            return self._answered(message, number) if type(number) is int else []
        if not isinstance(method, str):
            return []
        if number is not None:
            self._decline(method, number)
            return []
        params = map_of(message.get("params"))
        if method == PLAN:
            return self._on_plan(params)
        thread_id = text_of(params.get("threadId"))
        turns = [turn for turn in self._turns if thread_id and turn.thread_id == thread_id and not turn.is_complete]
        return [(turn, turn.notified(method, params)) for turn in turns]

    def _on_plan(self, params: dict[str, Any]) -> list[tuple[CodexTurn, Batch]]:
        """Of the account, so any one of its turns may tell it. It comes before the turn that it is about has ended."""
        turn, update = next((turn for turn in self._turns if not turn.is_complete), None), to_plan_update(params)
        return [(turn, [update])] if turn and update else []

    def _answered(self, message: dict[str, Any], number: int) -> list[tuple[CodexTurn, Batch]]:
        turn, method = self._awaited.pop(number, (None, ""))
        error = message.get("error")
        if method == "initialize":
            self._on_initialized(map_of(error))
        if turn is None or not turn.is_listening:
            return []
        if error:
            turn.refused(method, map_of(error))
            return [(turn, [])]
        return [(turn, turn.answered(method, map_of(message.get("result"))))]

    def _on_initialized(self, error: dict[str, Any]) -> None:
        if error:
            self.refusal = str(error.get("message", error))
            for turn in self._turns:
                turn.fail(self.refusal)
            return
        self.is_ready = True
        self._outgoing.append({"method": "initialized"})
        for turn in self._turns:
            turn.begin()

    def _decline(self, method: str, number: Any) -> None:
        if not isinstance(number, int | str):  # what cannot be a request's id (JSON-RPC 2.0, 4) cannot be answered
            return
        if method.endswith("/requestApproval"):
            self._outgoing.append({"id": number, "result": DECLINED})
        else:
            error = {"code": -32601, "message": f"{method} is not supported by this client"}
            self._outgoing.append({"id": number, "error": error})


class CodexConversation(Conversation):
    """One turn in an app-server of its own."""

    def __init__(self, invocation: Invocation) -> None:
        self._turn = CodexTurn(invocation)
        self._connection = CodexConnection()
        self._connection.add(self._turn)

    @property
    def is_complete(self) -> bool:
        return self._turn.is_complete

    def receive(self, data: bytes) -> Batch:
        return [event for _, batch, _ in self._connection.receive(data) for event in batch]

    def finish(self, exit: Exit) -> Batch:
        return self._turn.finish(exit)

    def outgoing(self) -> bytes:
        return self._connection.outgoing()
