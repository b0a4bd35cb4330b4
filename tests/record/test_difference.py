"""What the record command prints of two recordings."""

from __future__ import annotations

from tests.record.difference import differences
from tests.unit.services.decoding.recorded import FOLDER

OLD = (FOLDER / "claude" / "2.1.197" / "partial.stdout.jsonl").read_text()
NEW = (FOLDER / "claude" / "2.1.332" / "partial.stdout.jsonl").read_text()


def test_a_recording_does_not_differ_from_itself_nor_by_values_alone() -> None:
    assert differences(NEW, NEW) == []
    assert differences(NEW, NEW.replace("hmm0", "other").replace("70f18ad9", "80f18ad9")) == []


def test_members_that_came_or_went_are_named_with_their_line() -> None:
    found = differences(OLD, NEW)
    assert "assistant: - message.usage.service_tier, request_id" in found
    (result,) = (line for line in found if line.startswith("result/success: +"))
    assert "subagent_stats" in result
    assert "subagent_stats." not in result


def test_lines_that_came_or_went_are_named() -> None:
    without = "".join(line for line in NEW.splitlines(keepends=True) if '"system"' not in line)
    assert "- system/init" in differences(NEW, without)
    assert "+ system/init" in differences(without, NEW)


def test_plain_text_is_compared_as_it_is() -> None:
    assert differences("a\n", "b\n") == ["- 'a'", "+ 'b'"]
    assert differences("a\n", "a\n") == []
