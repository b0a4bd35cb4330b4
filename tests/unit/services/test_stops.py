from __future__ import annotations

from services.events import Batch, Finished, Text, Thinking, UsageUpdate
from services.stop_sequences import cut_at_stop
from services.usage import Usage


def cut(texts: list[str], *stops: str) -> tuple[str, Finished]:
    batches: list[Batch] = [[Text(text)] for text in texts]
    events = [event for batch in cut_at_stop([*batches, [Finished()]], stops) for event in batch]
    end = events.pop()
    assert isinstance(end, Finished)
    return "".join(event.text for event in events if isinstance(event, Text)), end


def test_text_is_cut_before_the_stop_sequence() -> None:
    text, end = cut(["one ST", "OP two"], "STOP")
    assert (text, end.stop_reason, end.stop_sequence) == ("one ", "stop_sequence", "STOP")


def test_the_beginning_of_a_stop_sequence_that_does_not_come_is_kept() -> None:
    assert cut(["one ST", "AY two ST"], "STOP") == ("one STAY two ST", Finished())


def test_the_first_stop_sequence_in_the_text_counts() -> None:
    assert cut(["a\n\nHuman: b"], "Human:", "\n\n")[0] == "a"


def test_usage_so_far_is_told_and_other_events_pass() -> None:
    usage = Usage(input_tokens=5)
    batches: list[Batch] = [[UsageUpdate(usage), Thinking("STOP")], [Text("x STOP y"), Finished()]]
    events = [event for batch in cut_at_stop(batches, ("STOP",)) for event in batch]
    assert events == [
        UsageUpdate(usage),
        Thinking("STOP"),
        Text("x "),
        Finished(stop_reason="stop_sequence", stop_sequence="STOP", usage=usage),
    ]


def test_the_stop_sequence_that_is_whole_first_counts_however_the_text_is_cut() -> None:
    assert cut(["aXb"], "aXb", "X") == cut(["aX", "b"], "aXb", "X") == ("a", Finished(stop_reason="stop_sequence", stop_sequence="X"))
