"""Feeds the readers of a run's events from memory, so that no event costs them a query."""

from __future__ import annotations

from collections import deque
from typing import Literal

from gevent.event import Event

from services.runs.record import Chunk

QUEUE_LIMIT_BYTES = 1024 * 1024
"""How much waits in memory for one slow reader; it reads the rest from the table."""


class Subscription:
    """Chunks of one run in order, from the time of the subscription on. A reader checks their numbers: some may be missing."""

    def __init__(self, feed: Feed, run_id: str, limit_bytes: int) -> None:
        self._feed = feed
        self._run_id = run_id
        self._limit_bytes = limit_bytes
        self._chunks: deque[Chunk] = deque()
        self._bytes = 0
        self._must_read = False
        self._ready = Event()

    def next(self, timeout_s: float) -> Chunk | Literal["look", "silence"]:
        """The next chunk. ``look``: the run may have ended, or the table may have events that were not fed. ``silence``: nothing came
        within ``timeout_s``."""
        self._ready.wait(timeout_s)
        if self._chunks:
            chunk = self._chunks.popleft()
            self._bytes -= len(chunk.data)
            self._settle()
            return chunk
        if self._must_read:
            self._must_read = False
            self._settle()
            return "look"
        return "silence"

    def put(self, chunk: Chunk) -> None:
        if self._bytes and self._bytes + len(chunk.data) > self._limit_bytes:
            self._chunks.clear()
            self._bytes, self._must_read = 0, True
        else:
            self._chunks.append(chunk)
            self._bytes += len(chunk.data)
        self._ready.set()

    def wake(self) -> None:
        """Have the reader look at the table after the chunks that it has."""
        self._must_read = True
        self._ready.set()

    def close(self) -> None:
        self._feed.remove(self._run_id, self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle(self) -> None:
        if not self._chunks and not self._must_read:
            self._ready.clear()


class Feed:
    """The subscriptions of one process."""

    def __init__(self, limit_bytes: int = QUEUE_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._of_run: dict[str, list[Subscription]] = {}

    def subscribe(self, run_id: str) -> Subscription:
        subscription = Subscription(self, run_id, self._limit_bytes)
        self._of_run.setdefault(run_id, []).append(subscription)
        return subscription

    def remove(self, run_id: str, subscription: Subscription) -> None:
        """Idempotent."""
        held = self._of_run.get(run_id, [])
        if subscription in held:
            held.remove(subscription)
            if not held:
                del self._of_run[run_id]

    def put(self, run_id: str, chunk: Chunk) -> None:
        for subscription in self._of_run.get(run_id, ()):
            subscription.put(chunk)

    def wake(self, run_id: str) -> None:
        for subscription in self._of_run.get(run_id, ()):
            subscription.wake()

    def wake_all(self) -> None:
        for run_id in tuple(self._of_run):
            self.wake(run_id)
