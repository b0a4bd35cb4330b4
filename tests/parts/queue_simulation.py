"""Simulates callers of a server in time that does not pass: the real run store decides who is next, nothing is executed."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.parts.run_stores import RunDesk, end

UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Submission:
    at_s: float
    caller: str


@dataclass(slots=True)
class Simulation:
    """``slots`` runs are executed at a time, each for ``service_s``. ``is_fair``: callers take turns; else the queue knows one caller."""

    desk: RunDesk
    slots: int
    service_s: float
    is_fair: bool = True
    _free: int = field(init=False)
    _waiting: dict[str, Submission] = field(init=False, default_factory=dict)
    _running: list[tuple[float, str]] = field(init=False, default_factory=list)
    """A heap of (end, run)."""
    _waits: defaultdict[str, list[float]] = field(init=False, default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self._free = self.slots

    def run(self, submissions: Iterable[Submission]) -> dict[str, list[float]]:
        """Caller → how long each of its runs has waited, in seconds."""
        for submission in sorted(submissions):
            self._serve_until(submission.at_s)
            owner = submission.caller if self.is_fair else "everybody"
            self._waiting[self.desk.add(owner=owner, max_waiting=UNLIMITED, max_waiting_per_owner=UNLIMITED).id] = submission
            self._start(submission.at_s)
        self._serve_until(float("inf"))
        return dict(self._waits)

    def _serve_until(self, until_s: float) -> None:
        while self._running and self._running[0][0] <= until_s:
            now_s, run_id = heapq.heappop(self._running)
            assert self.desk.runs.end(run_id, end(1))
            self._free += 1
            self._start(now_s)

    def _start(self, now_s: float) -> None:
        while self._free and (run := self.desk.runs.claim(())):
            self._free -= 1
            submission = self._waiting.pop(run.id)
            self._waits[submission.caller].append(now_s - submission.at_s)
            heapq.heappush(self._running, (now_s + self.service_s, run.id))
