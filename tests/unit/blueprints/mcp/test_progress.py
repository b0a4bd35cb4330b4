from __future__ import annotations

import json
from typing import Any

from blueprints import sse
from blueprints.mcp.progress import EVERY_S, IDLE, LINE_CHARS, SILENCE_S, Progress
from services.events import Text, Thinking, ToolCall, ToolProgress


class Told:
    """A call's notifications, at the times that the test says."""

    def __init__(self, token: int | str | None) -> None:
        self.now = 100.0
        self._progress = Progress(token, lambda: self.now)

    def after(self, seconds: float, *events: Any, who: str = "") -> bytes:
        self.now += seconds
        return self._progress(list(events), who)

    def note(self, seconds: float, *events: Any, who: str = "") -> dict[str, Any]:
        sent = self.after(seconds, *events, who=who)
        assert sent.startswith(b"event: message\ndata: "), sent
        found: dict[str, Any] = json.loads(sent.partition(b"data: ")[2])["params"]
        return found


def test_the_last_line_of_text_or_the_name_of_a_tool_is_told() -> None:
    told = Told("t")
    assert told.note(1, Text("One\nTwo ")) == {"progressToken": "t", "progress": 1, "message": "Two"}
    assert told.note(1, Text("more\n"))["message"] == "Two more"
    assert told.note(1, ToolCall("1", "Bash", {}))["message"] == "Bash"
    assert told.note(1, ToolProgress("1", "Bash", 31.4))["message"] == "Bash (31 s)"


def test_at_most_two_a_second_and_the_latest_wins() -> None:
    told = Told(0)
    assert told.note(1, Text("a"))["message"] == "a"
    assert [told.after(EVERY_S / 10, Text("b")), told.after(EVERY_S / 10, ToolCall("1", "Edit", {}))] == [b"", b""]
    assert told.note(EVERY_S, Thinking("hm")) == {"progressToken": 0, "progress": 2, "message": "Edit"}


def test_the_number_rises_with_every_notification() -> None:
    told = Told(1)
    assert [told.note(1, Text(str(number)))["progress"] for number in range(5)] == [1, 2, 3, 4, 5]


def test_a_silent_run_is_still_told_of() -> None:
    told = Told(1)
    assert told.note(10)["message"] == IDLE
    told.note(1, ToolCall("1", "Bash", {}))
    assert told.note(10) == {"progressToken": 1, "progress": 3, "message": "Bash"}


def test_without_a_token_there_are_only_comments() -> None:
    told = Told(None)
    assert told.after(1, Text("a")) == b""
    assert told.after(1) == sse.KEEP_ALIVE
    assert told.after(SILENCE_S - 1, Text("b")) == b""
    assert told.after(1, Text("c")) == sse.KEEP_ALIVE


def test_events_that_say_nothing_do_not_make_the_stream_silent() -> None:
    told = Told(1)
    assert told.after(1, Thinking("hm")) == b""
    assert told.after(SILENCE_S, Thinking("hm")) == sse.KEEP_ALIVE


def test_a_line_of_any_length_is_cut() -> None:
    assert len(Told(1).note(1, Text("x" * 100_000))["message"]) == LINE_CHARS


def test_several_runs_have_a_line_each() -> None:
    told = Told(1)
    assert told.note(1, Text("I "), who="codex")["message"] == "codex: I"
    assert told.note(1, Text("You "), who="claude")["message"] == "claude: You"
    assert told.note(1, Text("say"), who="codex")["message"] == "codex: I say"
