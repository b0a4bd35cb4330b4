"""The notifications of one turn of ``codex app-server`` → events (recordings/codex/warm-appserver-*).

One app-server carries many threads at once: a notification of another thread or turn is not this run's and gives nothing.
The driver owns the process, the requests and their answers, and says Started; this is told what it needs of them.

Usage: ``tokenUsage.total`` is that of the whole thread. The turn's is the difference to the total before it, which is
given (``usage_before``) or, on a resumed thread, told by the server itself before the turn starts. On a forked thread nobody tells it
(seen with 0.169.0): then it is the total of the turn's first count without its ``last``, which is the first request's own.
"""

from __future__ import annotations

from typing import Any

from services.clis.codex.items import ToolItems, failure_of, to_usage
from services.decoding.decoder import Exit
from services.decoding.exit_messages import ended_without_result, finished, with_denials
from services.decoding.fields import list_of, map_of, text_of
from services.decoding.lines import JsonLines
from services.decoding.replay import DIFFERS, StreamReplay
from services.events import Batch, Failed, Retrying, Text, Thinking, UsageUpdate
from services.usage import Usage


class CodexAppServerDecoder:
    """One turn. ``turn_id`` may be left out: then the first turn that starts on the thread is meant.

    ``thread_id`` left out takes the first thread that is heard of (for reading recordings).
    """

    def __init__(
        self,
        thread_id: str = "",
        turn_id: str = "",
        usage_before: Usage | None = None,
    ) -> None:
        self.thread_id = thread_id
        self.turn_id = turn_id
        self._usage_before = usage_before
        self._lines = JsonLines()
        self._turn: dict[str, Any] | None = None  # when completed
        self._usage: Usage | None = None
        self._error: dict[str, Any] = {}
        self._has_answered = False
        self._block = -1
        self._message = ""  # id of the message that streams
        self._is_retold = False  # the next message is the one that broke off, from its start
        self._replay = StreamReplay()
        self._thought: set[str] = set()  # reasoning items that came as deltas
        self._tools = ToolItems()

    @property
    def is_complete(self) -> bool:
        return self._turn is not None

    @property
    def usage_total(self) -> Usage:
        """The thread's total so far: ``usage_before`` of the thread's next turn."""
        return (self._usage_before or Usage()) + (self._usage or Usage())

    def feed(self, chunk: bytes) -> Batch:
        return self._decode(self._lines.feed(chunk))

    def _decode(self, objects: list[dict[str, Any]]) -> Batch:
        batch: Batch = []
        for message in objects:
            method = message.get("method")
            if isinstance(method, str) and "id" not in message:
                batch += self.notification(method, map_of(message.get("params")))
        return batch

    def notification(self, method: str, params: dict[str, Any]) -> Batch:
        batch: Batch = []
        if self._turn is not None or not self._is_ours(method, params):
            return batch
        match method:
            case "item/agentMessage/delta":
                self._say(text_of(params.get("itemId")), text_of(params.get("delta")), batch, is_partial=True)
            case "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta":
                self._think(params, batch)
            case "item/started":
                self._on_item(map_of(params.get("item")), batch, is_done=False)
            case "item/completed":
                self._on_item(map_of(params.get("item")), batch, is_done=True)
            case "thread/tokenUsage/updated":
                self._on_usage(params, batch)
            case "error":
                self._on_error(params, batch)
            case "turn/completed":
                self._turn = map_of(params.get("turn"))
        return batch

    def finish(self, exit: Exit) -> Batch:
        batch = self._decode(self._lines.flush())
        turn = self._turn
        failed = exit.code or 1  # as `codex exec` exits; the server's own exit says nothing of the turn
        if turn is None:
            told = text_of(self._error.get("message")) or self._lines.noise
            batch.append(ended_without_result(exit, told, usage=self._usage))
        elif turn.get("status") == "interrupted":
            batch.append(Failed("cancelled", "the turn was interrupted", failed, self._usage))
        elif turn.get("status") != "completed":
            batch.append(failure_of(map_of(turn.get("error")) or self._error, "", failed, self._usage))
        elif self._replay.differs:
            batch.append(Failed("backend", DIFFERS, failed, self._usage))
        elif not self._has_answered:
            batch.append(Failed("backend", "Codex finished without an answer", failed, self._usage))
        else:
            batch.append(finished(exit, usage=self._usage))
        return with_denials(batch, self._tools.denials)

    def _is_ours(self, method: str, params: dict[str, Any]) -> bool:
        thread = params.get("threadId")
        if not self.thread_id and isinstance(thread, str):
            self.thread_id = thread
        if thread != self.thread_id:
            return False
        match params:
            case {"turnId": str(turn)} | {"turn": {"id": str(turn)}}:
                pass
            case _:
                return False  # of the thread, not of a turn: status, warnings
        if method == "turn/started" and not self.turn_id:
            self.turn_id = turn
        if turn != self.turn_id and method == "thread/tokenUsage/updated" and self._usage is None:
            # A resumed thread is told its total before the turn starts, under its last turn's id (warm-appserver-resume).
            self._usage_before = _total(params)
        return turn == self.turn_id

    def _say(self, item_id: str, text: str, batch: Batch, *, is_partial: bool) -> None:
        if item_id != self._message:
            self._open_message(item_id)
        if not text:
            return
        if new := self._replay.new(text):
            batch.append(Text(new, self._block, is_partial))
        if not self._has_answered:
            self._has_answered = not text.isspace()

    def _open_message(self, item_id: str) -> None:
        """Begin a block, unless the message before broke off and is told again (`_on_error`)."""
        if not self._is_retold:
            self._replay.open()
            self._block += 1
        self._is_retold = False
        self._message = item_id

    def _on_error(self, params: dict[str, Any], batch: Batch) -> None:
        error = map_of(params.get("error"))
        if params.get("willRetry") is True:
            failure = failure_of({**error, "message": text_of(error.get("additionalDetails")) or error.get("message")}, "", None)
            batch.append(Retrying(failure.kind, failure.message))
            if self._message and self._replay.has_said:
                self._replay.restart()
                self._is_retold = True
                self._message = ""
        else:
            self._error = error

    def _think(self, params: dict[str, Any], batch: Batch) -> None:
        self._thought.add(text_of(params.get("itemId")))
        if text := text_of(params.get("delta")):
            batch.append(Thinking(text))

    def _on_item(self, item: dict[str, Any], batch: Batch, *, is_done: bool) -> None:
        match item:
            case {"type": "agentMessage", "id": str(id)}:
                self._on_message(id, text_of(item.get("text")), batch, is_done=is_done)
            case {"type": "reasoning", "id": str(id)}:
                if is_done and id not in self._thought:
                    parts = list_of(item.get("summary")) or list_of(item.get("content"))
                    batch += [Thinking(text) for part in parts if (text := text_of(part))]
            case _:
                self._on_tool(item, batch, is_done=is_done)

    def _on_message(self, id: str, text: str, batch: Batch, *, is_done: bool) -> None:
        if id != self._message:
            self._open_message(id)
        if is_done:
            self._say(id, self._replay.rest(text), batch, is_partial=False)
            self._replay.close()
            self._message = ""

    def _on_tool(self, item: dict[str, Any], batch: Batch, *, is_done: bool) -> None:
        self._has_answered = self._tools.receive(item, batch, is_done=is_done) or self._has_answered

    def _on_usage(self, params: dict[str, Any], batch: Batch) -> None:
        total = _total(params)
        if total is None:
            return
        if self._usage_before is None:
            self._usage_before = total - (_count(params, "last") or Usage())
        self._usage = total - self._usage_before
        batch.append(UsageUpdate(self._usage))


def _total(params: dict[str, Any]) -> Usage | None:
    return _count(params, "total")


def _count(params: dict[str, Any], name: str) -> Usage | None:
    return to_usage(map_of(map_of(params.get("tokenUsage")).get(name)))
