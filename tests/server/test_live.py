"""What is known of a process between two turns: pure, on the recording of a real one, and on files and processes."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.clis.claude.conversation import ClaudeConversation
from services.decoding.decoder import Exit
from services.events import Finished
from services.execution.transcript import TAIL_BYTES, Transcript, contains, stamp_of
from services.processes.procfs import descendants, parent_of
from services.usage import Usage
from tests.unit.services.execution.test_warm_protocols import claude_run, encoded, heard, text


def turns() -> list[list[dict[str, Any]]]:
    """What the process of a recording said, cut after each turn's last line."""
    found: list[list[dict[str, Any]]] = [[]]
    for message in heard("claude/2.1.197/warm-control.jsonl"):
        found[-1].append(message)
        if message["type"] == "result":
            found.append([])
    return found


FIRST, INTERRUPTED, THIRD, WITH_TOOL = turns()[:4]


def after(turn: list[dict[str, Any]], before: ClaudeConversation | None = None) -> ClaudeConversation:
    stream = before.next(claude_run()) if before else ClaudeConversation(claude_run(), is_initialized=True)
    stream.receive(encoded(turn))
    return stream


def end(stream: ClaudeConversation) -> Finished:
    *_, last = stream.finish(Exit(0))
    assert isinstance(last, Finished)
    return last


def test_each_turn_of_a_process_costs_what_it_costs_alone() -> None:
    first = after(FIRST)
    interrupted = after(INTERRUPTED, first)
    third = after(THIRD, interrupted)
    fourth = after(WITH_TOOL, third)
    assert [end(one).cost_usd for one in (first, third, fourth)] == [0.000125, 0.000115, 0.00025]
    assert [end(one).usage for one in (first, third, fourth)] == [Usage(100, 5), Usage(100, 3), Usage(200, 10)]


def test_usage_of_a_turn_that_has_none_of_its_own_is_what_its_models_have_more_than_before() -> None:
    third = [line | {"usage": {}} if line["type"] == "result" else line for line in THIRD]
    assert end(after(third, after(INTERRUPTED, after(FIRST)))).usage == Usage(100, 3)


def test_the_question_of_the_next_turn_goes_out_at_once_and_alone() -> None:
    (asked,) = map(orjson.loads, after(FIRST).next(claude_run(system_prompt="S")).outgoing().splitlines())
    assert asked["message"]["content"][-1]["text"] == "hello"


def test_the_checkpoint_of_a_good_turn_is_the_id_of_its_last_message() -> None:
    first = after(FIRST)
    *_, message = (line for line in FIRST if line["type"] == "assistant")
    assert first.checkpoint == message["uuid"]
    assert first.session_id == message["session_id"]
    assert text(first.receive(b"")) == ""


def used(name: str, **input: Any) -> list[dict[str, Any]]:
    """A turn that has used a tool."""
    block = {"type": "tool_use", "id": "t", "name": name, "input": input}
    message = {"type": "assistant", "uuid": "u", "message": {"id": "m", "content": [block]}, "parent_tool_use_id": None}
    return [*FIRST[:-1], message, FIRST[-1]]


@pytest.mark.parametrize(
    ("turn", "lasts"),
    [
        (FIRST, True),
        (WITH_TOOL, True),
        (used("Edit"), True),
        (used("Bash", run_in_background=True), False),
        (used("Agent"), False),
        (used("CronCreate"), False),
        (used("mcp__mine__watch"), False),
        (INTERRUPTED, False),
        (FIRST[:-1], False),
        ([*FIRST, {"type": "system", "subtype": "init"}], False),
    ],
    ids=["plain", "shell", "edit", "background", "agent", "appointment", "server's tool", "interrupted", "no end", "more after the end"],
)
def test_a_process_is_kept_after_a_turn_of_which_nothing_goes_on(turn: list[dict[str, Any]], lasts: bool) -> None:
    assert bool(after(turn).checkpoint) == lasts


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_turn_that_comes_in_pieces_lasts_as_well(size: int) -> None:
    stream, data = ClaudeConversation(claude_run(), is_initialized=True), encoded(FIRST)
    for start in range(0, len(data), size):
        stream.receive(data[start : start + size])
    assert stream.checkpoint


def test_a_transcript_is_untouched_until_somebody_writes_to_it_or_puts_another_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_text("one\n")

    def transcript() -> Transcript:
        return Transcript(str(path), stamp_of(str(path)))

    before = transcript()
    assert before.is_untouched
    with path.open("a") as file:
        file.write("two\n")
    assert not before.is_untouched
    before = transcript()
    other = tmp_path / "other"
    other.write_text("ONE\nTWO\n")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    assert not before.is_untouched
    before = transcript()
    path.unlink()
    assert not before.is_untouched
    assert not transcript().is_untouched


def test_a_word_is_found_near_the_end_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "session.jsonl"
    path.write_bytes(b"first" + b"x" * TAIL_BYTES + b"last\n")
    assert contains(str(path), "last")
    assert not contains(str(path), "first")
    assert not contains(str(tmp_path / "missing"), "last")


def test_what_a_process_has_started_is_below_it() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as shell:
        while not (below := descendants(shell.pid)):
            pass
        assert parent_of(below[0]) == shell.pid
        assert parent_of(shell.pid) == os.getpid()
        os.killpg(shell.pid, signal.SIGKILL)
    assert parent_of(shell.pid) is None
