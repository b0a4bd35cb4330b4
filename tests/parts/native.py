"""Reads the events of the native API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .client import Arrival

Event = dict[str, Any]


def events(arrivals: Iterable[Arrival]) -> list[Event]:
    """The events of a finished stream; exactly one of them, the last, is terminal."""
    found = [arrival.json for arrival in arrivals]
    ends = [event["type"] for event in found if event["type"] in ("done", "error")]
    assert len(ends) == 1, ends
    assert found[-1]["type"] == ends[0]
    assert [event["sequence"] for event in found] == list(range(found[0]["sequence"], found[0]["sequence"] + len(found)))
    return found


def of_type(found: Iterable[Event], *kinds: str) -> list[Event]:
    return [event for event in found if event["type"] in kinds]


def text(found: Iterable[Event]) -> str:
    """The answer: the messages' text, joined."""
    return "".join(event["content"] for event in of_type(found, "message"))
