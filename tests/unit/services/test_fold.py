"""What a run's events add up to, and a run that is started again. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from services.events import Batch, Failed, Finished, Started, Text, Thinking, UsageUpdate
from services.fold import Fold
from services.retried import retried
from services.usage import Usage

GONE = Failed("unknown_session", "gone")


def folded(*batches: Batch) -> Fold:
    fold = Fold()
    for batch in batches:
        fold.add(batch)
    return fold


def test_text_model_session_and_end() -> None:
    fold = folded([Started("s", "m"), Thinking("hm")], [Text("a")], [Text("b"), Finished()])
    assert (fold.text, fold.model, fold.session_id, fold.end) == ("ab", "m", "s", Finished())


def test_before_the_end_there_is_none() -> None:
    assert folded([Text("a")]).end is None


def test_usage_is_the_end_s_else_the_latest_and_less_what_was_before() -> None:
    fold = folded([UsageUpdate(Usage(5, 1))], [UsageUpdate(Usage(7, 2))])
    assert fold.usage == Usage(7, 2)
    fold.add([Finished(usage=Usage(130, 15))])
    fold.usage_before = Usage(100, 10)
    assert (fold.usage, fold.reported_usage) == (Usage(30, 5), Usage(130, 15))


def again(*batches: Batch) -> tuple[list[Failed], list[Batch]]:
    """The failures for which a second run was asked for, and the batches of both."""
    failures: list[Failed] = []

    def start_again(failure: Failed) -> Iterator[Batch] | None:
        failures.append(failure)
        return iter([[Started("new")], [Text("second"), Finished()]]) if failure == GONE else None

    return failures, list(retried(batches, start_again))


def test_a_failure_before_any_output_starts_a_second_run_and_nothing_of_the_first_is_passed_on() -> None:
    assert again([Started("old"), UsageUpdate(Usage(1))], [], [GONE]) == ([GONE], [[], [Started("new")], [Text("second"), Finished()]])


def test_another_failure_is_passed_on_after_what_was_held_back() -> None:
    other = Failed("backend", "no")
    assert again([Started("old")], [other]) == ([other], [[Started("old"), other]])


def test_after_the_first_output_nothing_is_held_back_or_started_again() -> None:
    assert again([Started("old")], [Text("a")], [Started("x")], [GONE]) == ([], [[Started("old"), Text("a")], [Started("x")], [GONE]])


def test_a_run_without_output_is_passed_on_whole() -> None:
    assert again([Started("old")], []) == ([], [[], [Started("old")]])
