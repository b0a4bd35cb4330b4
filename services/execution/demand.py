"""How many workers each kind of run should find ready. Decides; starts and ends nothing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

from services.clis.warmth import Parameters
from services.execution.backoff import Backoff
from services.execution.worker import Need

KEYS_LIMIT = 32
"""Kinds of runs that are remembered; the least recently used one is forgotten."""


@dataclass(slots=True, eq=False)
class Demand:
    """What is known of the runs of one key."""

    need: Need
    """Of the first run: the next worker is started for it."""
    backoff: Backoff
    """Of failed starts."""
    min_size: int = 0
    target: int = 0
    parameters: Parameters | None = None
    """Of the latest run."""
    is_steady: bool = False
    """The latest two runs had the same parameters: the next worker is initialized with them early."""

    def observe(self, parameters: Parameters) -> None:
        self.is_steady = parameters == self.parameters
        self.parameters = parameters

    def miss(self, most: int) -> None:
        """A run found no worker: from now on one more is kept, up to ``most``, and tried again at once where starts have failed."""
        self.target = min(self.target + 1, most)
        self.backoff.expedite()

    def relax(self) -> None:
        """A worker was idle for too long: it is not replaced."""
        self.target = max(self.target - 1, self.min_size)

    def record_failure(self) -> None:
        """A worker could not be started: only those of ``min_size`` are tried again without a run."""
        self.target = self.min_size
        self.backoff.record_failure()

    def cancel(self) -> None:
        self.target = self.min_size = 0


class Demands:
    """Those of one backend, the least recently used first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._demands: OrderedDict[Hashable, Demand] = OrderedDict()

    def __iter__(self) -> Iterator[Demand]:
        return iter(tuple(self._demands.values()))

    def get(self, key: Hashable) -> Demand | None:
        return self._demands.get(key)

    def visit(self, need: Need) -> tuple[Demand, list[Hashable]]:
        """The demand for runs like this one, which is now the most recently used; and the keys that were forgotten for it."""
        demand = self._demands.setdefault(need.key, Demand(need, Backoff(self._clock)))
        self._demands.move_to_end(need.key)
        forgotten: list[Hashable] = []
        while len(self._demands) > KEYS_LIMIT:
            oldest = next((key for key, one in self._demands.items() if not one.min_size and one is not demand), None)
            if oldest is None:
                break
            self.forget(oldest)
            forgotten.append(oldest)
        return demand, forgotten

    def forget(self, key: Hashable) -> None:
        if demand := self._demands.pop(key, None):
            demand.cancel()

    def clear(self) -> None:
        for key in tuple(self._demands):
            self.forget(key)

    def next_to_fill(self, sizes: Mapping[Hashable, int]) -> Demand | None:
        """The most recently used one that lacks a worker, by how many each key has. After failed starts, it waits for its back-off."""
        lacking = (one for one in reversed(self._demands.values()) if sizes.get(one.need.key, 0) < one.target)
        return next((one for one in lacking if one.backoff.is_due), None)

    def next_to_evict(self, sizes: Mapping[Hashable, int], demand: Demand) -> Demand | None:
        """The least recently used one that can give up a worker for ``demand``, which is more recently used."""
        for other in self._demands.values():
            if other is demand:
                return None
            if sizes.get(other.need.key, 0) > other.min_size:
                return other
        return None
