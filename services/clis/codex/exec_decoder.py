"""``codex exec --json`` (recordings/codex). No deltas: every message comes whole. `codex_app_server` has them.

Its traps: after ``resume`` the usage is that of the whole thread (openai/codex#17539), so the earlier total is taken off;
an item of type ``error`` is a warning, and so is a line of type ``error`` while ``turn.failed`` has not come.
"""

from __future__ import annotations

from typing import Any

from services.clis.codex.items import ToolItems, failure_of, to_usage
from services.decoding.decoder import Exit
from services.decoding.exit_messages import ended_without_result, finished, with_denials
from services.decoding.fields import map_of, text_of
from services.decoding.lines import JsonLines
from services.events import Batch, Failed, Started, Text, Thinking
from services.usage import Usage


class CodexExecDecoder:
    """``usage_before`` is the thread's total before this turn, where it continues a thread."""

    def __init__(self, *, usage_before: Usage | None = None) -> None:
        self._lines = JsonLines()
        self._usage_before = usage_before or Usage()
        self._last_word: dict[str, Any] | None = None
        self._error = ""
        self._block = -1
        self._has_begun = False
        self._has_answered = False
        self._tools = ToolItems()

    @property
    def is_complete(self) -> bool:
        return self._last_word is not None

    def feed(self, chunk: bytes) -> Batch:
        return self._decode(self._lines.feed(chunk))

    def finish(self, exit: Exit) -> Batch:
        batch = self._decode(self._lines.flush())
        said = self._last_word
        if said is None:
            batch.append(ended_without_result(exit, self._error or self._lines.noise))
        elif said["type"] == "turn.failed":
            batch.append(failure_of(map_of(said.get("error")), self._error, exit.code))
        else:
            total = to_usage(map_of(said.get("usage")))
            usage = total - self._usage_before if total else None
            if self._has_answered:
                batch.append(finished(exit, usage=usage))
            else:
                batch.append(Failed("backend", "Codex finished without an answer", exit.code, usage))
        return with_denials(batch, self._tools.denials)

    def _decode(self, objects: list[dict[str, Any]]) -> Batch:
        batch: Batch = []
        for line in objects:
            match line.get("type"):
                case "thread.started" if not self._has_begun and not batch:
                    batch.append(Started(text_of(line.get("thread_id")) or None))
                case "item.started":
                    self._on_tool(map_of(line.get("item")), batch, is_done=False)
                case "item.completed":
                    self._on_item(map_of(line.get("item")), batch)
                case "error":
                    self._error = text_of(line.get("message"))
                case "turn.completed" | "turn.failed":
                    self._last_word = line
        self._has_begun = self._has_begun or bool(batch)
        return batch

    def _on_item(self, item: dict[str, Any], batch: Batch) -> None:
        match item:
            case {"type": "agent_message", "text": str(text)}:
                self._block += 1
                self._has_answered = self._has_answered or bool(text.strip())
                if text:
                    batch.append(Text(text, self._block, is_partial=False))
            case {"type": "reasoning", "text": str(text)}:
                batch.append(Thinking(text))
            case _:
                self._on_tool(item, batch, is_done=True)

    def _on_tool(self, item: dict[str, Any], batch: Batch, *, is_done: bool) -> None:
        self._has_answered = self._tools.receive(item, batch, is_done=is_done) or self._has_answered
