"""What the real CLIs wrote, by folder and version: `tests/recordings/<cli>/<version>/<case>.stdout.jsonl` and what belongs to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.clis.claude.decoder import ClaudeDecoder
from services.clis.codex.exec_decoder import CodexExecDecoder
from services.clis.gemini.decoder import GeminiDecoder
from services.decoding.decoder import Decoder, Exit
from services.decoding.json_document import CLAUDE_JSON, GEMINI_JSON, DocumentDecoder
from services.decoding.text import PlainDecoder
from services.events import Event, Failed, Finished, Started, Text, is_terminal

FOLDER = Path(__file__).parents[3] / "recordings"

STREAMS: dict[str, Callable[[], Decoder]] = {"claude": ClaudeDecoder, "codex": CodexExecDecoder, "gemini": GeminiDecoder}


@dataclass(frozen=True)
class Recording:
    path: Path

    @property
    def cli(self) -> str:
        return self.path.parent.parent.name

    @property
    def case(self) -> str:
        return self.path.name.partition(".")[0]

    @property
    def meta(self) -> dict[str, Any]:
        return json.loads(self._beside("meta.json").read_text())

    @property
    def stdout(self) -> bytes:
        return self.path.read_bytes()

    @property
    def exit(self) -> Exit:
        stderr = self._beside("stderr.txt")
        code = self.meta["exit"]
        return Exit(128 - code if code < 0 else code, stderr.read_text()[-4000:] if stderr.exists() else "")

    def decoder(self) -> Decoder:
        if self.case in ("json", "text") and "stream-json" not in self.meta["argv"] and self.cli != "codex":
            return PlainDecoder() if self.case == "text" else DocumentDecoder(CLAUDE_JSON if self.cli == "claude" else GEMINI_JSON)
        return STREAMS[self.cli]()

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.case}.{suffix}")


def recordings(pattern: str = "*/*/*") -> list[Any]:
    """Every recording whose path matches, as pytest parameters."""
    return [Recording(path) for path in sorted(FOLDER.glob(f"{pattern}.stdout.jsonl"))]


def recording(name: str) -> Recording:
    """``claude/partial``, of the newest version that has it."""
    cli, case = name.split("/")
    return Recording(sorted(FOLDER.glob(f"{cli}/*/{case}.stdout.jsonl"))[-1])


def name_of(recording: Recording) -> str:
    return str(recording.path.relative_to(FOLDER)).removesuffix(".stdout.jsonl")


def decode(decoder: Decoder, chunks: Iterable[bytes], exit: Exit) -> list[Event]:
    events: list[Event] = []
    for chunk in chunks:
        batch = decoder.feed(chunk)
        assert not any(is_terminal(event) for event in batch), "feed gave a terminal event"
        events += batch
    events += decoder.finish(exit)
    check_grammar(events)
    assert exit.code is not None or exit.was_stopped or isinstance(events[-1], Failed), "an unknown exit was taken for success"
    return events


def run(name: str) -> list[Event]:
    found = recording(name)
    return decode(found.decoder(), [found.stdout], found.exit)


def check_grammar(events: list[Event]) -> None:
    assert [is_terminal(event) for event in events] == [False] * (len(events) - 1) + [True]
    assert not any(isinstance(event, Started) for event in events[1:]), "Started is not first"
    blocks = [event.block for event in events if isinstance(event, Text)]
    assert blocks == sorted(blocks), "a block was gone back to"
    assert all(event.text for event in events if isinstance(event, Text)), "an empty text"


def text_of(events: list[Event]) -> str:
    """The answer, its blocks set apart by ``|``."""
    blocks: dict[int, str] = {}
    for event in events:
        if isinstance(event, Text):
            blocks[event.block] = blocks.get(event.block, "") + event.text
    return "|".join(blocks.values())


def finished(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1]


def failed(events: list[Event]) -> Failed:
    assert isinstance(events[-1], Failed), events[-1]
    return events[-1]
