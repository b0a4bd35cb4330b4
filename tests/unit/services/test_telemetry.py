"""What a run's telemetry takes from its events."""

from __future__ import annotations

from types import SimpleNamespace

from services.events import Finished, Started, Text, UsageUpdate
from services.telemetry import RunTelemetry
from services.usage import Usage


def measured() -> RunTelemetry:
    return RunTelemetry(SimpleNamespace(spec=SimpleNamespace(name="shell"), model="asked-for"))  # type: ignore[arg-type]


def test_the_tokens_are_the_ends_own_else_the_latest_told() -> None:
    run = measured()
    run.fold.add([Started("s", "told"), UsageUpdate(Usage(5, 1)), UsageUpdate(Usage(5, 2))])
    assert (run.model, run.fold.usage) == ("told", Usage(5, 2))
    run.fold.add([Text("x"), Finished(usage=Usage(7, 3))])
    assert run.fold.usage == Usage(7, 3)


def test_the_first_output_is_text_thinking_or_a_tool_s_use() -> None:
    run = measured()
    run.look_for_output([Started("s", "told"), UsageUpdate(Usage(5, 1))])
    assert run.first_token_at is None
    run.look_for_output([Text("x"), Finished(usage=Usage(7, 3))])
    assert run.first_token_at


def test_the_tokens_of_a_resumed_session_are_those_of_the_turn() -> None:
    run = measured()
    run.fold.usage_before = Usage(100, 10)
    run.fold.add([Finished(usage=Usage(130, 15))])
    assert run.fold.usage == Usage(30, 5)
