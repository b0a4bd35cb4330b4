"""Stop sequences, implemented by the server: no CLI supports them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.events import Batch, Event, Finished, Text, UsageUpdate
from services.usage import Usage


def cut_at_stop(batches: Iterable[Batch], stops: tuple[str, ...]) -> Iterator[Batch]:
    """Pass events through until the text contains one of ``stops``, then end with Finished and the usage so far.

    Text that may be the start of a stop sequence is held back, so no part of a stop sequence is ever sent, however the CLI
    splits its text.
    """
    longest = max(map(len, stops))
    held = Text("")
    usage: Usage | None = None
    for batch in batches:
        out: list[Event] = []
        for event in batch:
            if not isinstance(event, Text):
                usage = event.usage if isinstance(event, UsageUpdate) else usage
                if held.text:
                    out.append(held)
                    held = Text("")
                out.append(event)
                continue
            text = held.text + event.text
            if found := _first(text, stops):
                start, stop = found
                if start:
                    out.append(Text(text[:start], event.block, event.is_partial))
                out.append(Finished(stop_reason="stop_sequence", stop_sequence=stop, usage=usage))
                yield out
                return
            keep = _held_back(text, stops, longest)
            if len(text) > keep:
                out.append(Text(text[: len(text) - keep], event.block, event.is_partial))
            held = Text(text[len(text) - keep :], event.block, event.is_partial)
        yield out


def _first(text: str, stops: tuple[str, ...]) -> tuple[int, str] | None:
    """Start and text of the stop sequence that is completed first: a model stops when one is complete, not when one begins."""
    ends = [(text.find(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    if not ends:
        return None
    end, _, stop = min(ends)
    return end - len(stop), stop


def _held_back(text: str, stops: tuple[str, ...], longest: int) -> int:
    """Length of the longest suffix of ``text`` that is a prefix of a stop sequence."""
    for length in range(min(longest - 1, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
