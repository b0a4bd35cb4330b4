"""Every recording there is, whole, in pieces and cut short. Adding one adds a test."""

from __future__ import annotations

import json
import re

import pytest

from services.decoding.decoder import Exit
from services.events import Failed, Finished
from tests.unit.services.decoding.recorded import Recording, decode, finished, name_of, recording, recordings, text_of

ALL = pytest.mark.parametrize("recording", recordings(), ids=name_of)
BIG_BYTES = 20_000


@ALL
def test_is_decoded_the_same_in_any_pieces(recording: Recording) -> None:
    stdout, exit = recording.stdout, recording.exit
    whole = decode(recording.decoder(), [stdout], exit)
    step = 1 if len(stdout) < BIG_BYTES else 977
    in_pieces = decode(recording.decoder(), (stdout[i : i + step] for i in range(0, len(stdout), step)), exit)
    assert text_of(in_pieces) == text_of(whole)
    assert in_pieces[-1] == whole[-1]
    if stdout.startswith(b"{") and b"\n{" in stdout:
        assert in_pieces == whole


@ALL
def test_its_end(recording: Recording) -> None:
    """A good end means exit code 0 or a limit. Without the result, or with an unknown exit, the same lines are a failure."""
    whole = decode(recording.decoder(), [recording.stdout], recording.exit)
    end = whole[-1]
    if isinstance(end, Finished):
        assert recording.meta["exit"] == 0 or end.stop_reason == "max_tokens"
        assert end.usage is not None or recording.case == "text"
    else:
        assert isinstance(end, Failed)
        assert end.message
        assert not end.message.lstrip("[").startswith("{")

    if recording.case != "text":
        lines = recording.stdout.splitlines(keepends=True)
        assert isinstance(decode(recording.decoder(), lines[:-1], Exit(0))[-1], Failed), "an answer was made of half a run"

    events = decode(recording.decoder(), [recording.stdout], Exit(None))
    assert isinstance(events[-1], Failed)
    if isinstance(end, Finished):
        assert text_of(events) == text_of(whole)
        assert (events[-1].usage, events[-1].exit_code) == (end.usage, None), "text and usage are kept"


@ALL
def test_cut_short_says_no_more_than_the_whole(recording: Recording) -> None:
    lines = recording.stdout.splitlines(keepends=True)
    whole = decode(recording.decoder(), lines, recording.exit)
    for count in range(len(lines)):
        for half in (b"", lines[count][: len(lines[count]) // 2]):
            events = decode(recording.decoder(), [*lines[:count], half], Exit(137))
            assert text_of(whole).startswith(text_of(events)) or recording.case == "text"
            assert isinstance(events[-1], Failed)


@pytest.mark.parametrize("name", ["claude/json", "claude/partial-tool", "codex/json", "gemini/json", "gemini/tool-yolo"])
def test_a_cli_that_reports_no_usage_has_none(name: str) -> None:
    """Then the API estimates it, and says so."""
    found = recording(name)
    assert finished(decode(found.decoder(), [found.stdout], found.exit)).usage
    without = re.sub(rb'"(usage|modelUsage|stats)":', rb'"x_\1":', found.stdout)
    assert finished(decode(found.decoder(), [without], found.exit)).usage is None


@pytest.mark.parametrize("recording", recordings("claude/*/*"), ids=name_of)
def test_claude_tells_every_text_once(recording: Recording) -> None:
    """The lines' own words: `result.result` is the last message, and no text may have more of it than the lines have."""
    lines = [json.loads(line) for line in recording.stdout.splitlines() if line.startswith(b'{"type"')]
    events = decode(recording.decoder(), [recording.stdout], recording.exit)
    result = next((line for line in lines if line["type"] == "result"), {})
    if isinstance(events[-1], Finished) and not result.get("is_error") and result.get("result"):
        assert text_of(events).split("|")[-1] == result["result"]
        messages = {
            line["message"]["id"]
            for line in lines
            if line["type"] == "assistant"
            and line["parent_tool_use_id"] is None
            and any(b["type"] == "text" for b in line["message"]["content"])
        }
        assert text_of(events).count("|") + 1 == max(len(messages), 1)


def test_codex_tells_every_text_once() -> None:
    for found in recordings("codex/*/*"):
        lines = [line for line in found.stdout.splitlines() if line.startswith(b'{"type":"item.completed"')]
        items = [json.loads(line).get("item", {}) for line in lines]
        events = decode(found.decoder(), [found.stdout], found.exit)
        assert text_of(events) == "|".join(item["text"] for item in items if item["type"] == "agent_message"), name_of(found)


def test_gemini_never_echoes_the_user() -> None:
    for found in recordings("gemini/*/*"):
        assert "[[fake" not in text_of(decode(found.decoder(), [found.stdout], found.exit)), name_of(found)
