"""The events of a run, from a server that may go away meanwhile; and the text in those of the compatible surfaces."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from typing import Any

import gevent

from app.cli.client.answer import answer_writer
from app.cli.client.reconnect import FIRST_PAUSE_S, while_away
from app.cli.client.remote import Remote
from app.cli.client.screen import Progress, say_json

Event = dict[str, Any]

NO_EVENT = "[DONE]"
"""Ends a stream of OpenAI's."""


class RunEvents:
    """The events of the run at ``path`` after number ``last``, each once, until no other can follow. Iterate over it once.

    ``last`` is the number of the latest event that has been dealt with. Raises NotReachable and Refused as `while_away`.
    """

    def __init__(self, remote: Remote, path: str, last: int, reconnect_s: float) -> None:
        self._remote = remote
        self._path = path
        self._reconnect_s = reconnect_s
        self.last = last

    def __iter__(self) -> Generator[Event, None, None]:
        while (events := while_away(self._open, self._reconnect_s)) is not None:
            before = self.last
            with closing(events):
                for number, data in events:
                    # The events of the compatible surfaces have no ids. No number is left out, so they can be counted.
                    number = self.last + 1 if number is None else number
                    if number > self.last:
                        if data != NO_EVENT:
                            yield json.loads(data)
                        self.last = number
            if self.last == before:
                gevent.sleep(FIRST_PAUSE_S)

    def _open(self) -> Any:
        return self._remote.events(f"{self._path}/events?after={self.last}")


def _chat_text(event: Event) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))


def _message_text(event: Event) -> str:
    return event["delta"].get("text", "") if event.get("type") == "content_block_delta" else ""


def _response_text(event: Event) -> str:
    return event["delta"] if event.get("type") == "response.output_text.delta" else ""


TEXT_OF: Mapping[str, Callable[[Event], str]] = {"chat": _chat_text, "message": _message_text, "response": _response_text}
"""Kind of run of a compatible surface → the text in one of its events."""


def show_text(events: Iterable[Event], kind: str, *, as_lines: bool, state: str) -> None:
    """As `show_events`, for a run of a compatible surface, to the end of ``events``."""
    progress = Progress()
    answer = answer_writer(progress.close)
    progress.show(state)
    try:
        for event in events:
            if as_lines:
                say_json(event, is_line=True)
            elif text := TEXT_OF[kind](event):
                answer.write(text)
    finally:
        answer.close()
        progress.close()
