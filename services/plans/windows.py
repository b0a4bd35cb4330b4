"""The windows of every backend's subscription, as its CLI last reported them. `services.plans.store` shares them between processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import time_ns

import msgspec

from services.plans.window import REJECTED, PlanWindow

log = logging.getLogger("clinvk.backends")

WINDOWS_LIMIT = 16
"""Of one backend."""
NAME_LIMIT_CHARS = 64
SAME_RESET_S = 120
"""Vendors move the reset of one window by seconds from answer to answer."""


@dataclass(frozen=True, slots=True)
class Observed:
    """``at``: microseconds since the epoch."""

    window: PlanWindow
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The windows of one backend that have not been reset yet. ``observed_at``: the latest report, in microseconds since the epoch."""

    backend: str
    windows: tuple[PlanWindow, ...]
    observed_at: int


class PlanWindows:
    """One per process."""

    def __init__(self, clock: Callable[[], int] = lambda: time_ns() // 1000) -> None:
        """``clock``: microseconds since the epoch."""
        self._clock = clock
        self._known: dict[str, dict[str, Observed]] = {}
        self._unsaved: set[tuple[str, str]] = set()
        self._not_understood: set[str] = set()

    def observe(self, backend: str, windows: Sequence[PlanWindow]) -> None:
        """Note what a CLI has just said, empty if it was not understood. What it leaves out stays as it was."""
        if not windows and backend not in self._not_understood:
            self._not_understood.add(backend)
            log.warning("%s reports the limits of its plan in a form that is not known; they are ignored", backend)
        for window in windows:
            before = next((one.window for one in self._current(backend) if one.window.name == window.name), None)
            if self._note(backend, Observed(_merged(before, window) if before else window, self._clock())):
                self._unsaved.add((backend, window.name))

    def learn(self, backend: str, observed: Observed) -> None:
        """Take over what another process has observed, unless something later is known here."""
        before = self._known.get(backend, {}).get(observed.window.name)
        if before is None or before.at < observed.at:
            self._note(backend, observed)

    def unsaved(self) -> Sequence[tuple[str, Observed]]:
        """What was observed and has not been `saved` yet, each with its backend."""
        return [(backend, self._known[backend][name]) for backend, name in sorted(self._unsaved)]

    def saved(self, observed: Iterable[tuple[str, Observed]]) -> None:
        for backend, one in observed:
            if self._known[backend][one.window.name] is one:
                self._unsaved.discard((backend, one.window.name))

    def plans(self) -> list[Plan]:
        current = {backend: self._current(backend) for backend in sorted(self._known)}
        return [
            Plan(backend=backend, windows=tuple(one.window for one in known), observed_at=max(one.at for one in known))
            for backend, known in current.items()
            if known
        ]

    def rejected_until(self, backend: str) -> int | None:
        """When the backend may be asked again, in seconds since the epoch; None if nothing is known against asking it now."""
        resets = [one.window.resets_at for one in self._current(backend) if one.window.status == REJECTED and one.window.resets_at]
        return max(resets, default=None)

    def retry_after_s(self, backends: Iterable[str]) -> float | None:
        """Seconds until the first of ``backends`` may be asked again; None if no reset is known."""
        resets = [until for backend in backends if (until := self.rejected_until(backend))]
        return max(1.0, min(resets) - self._clock() / 1e6) if resets else None

    def _note(self, backend: str, observed: Observed) -> bool:
        """False: the backend has too many windows already, or the name is too long."""
        known, name = self._known.setdefault(backend, {}), observed.window.name
        if name not in known and (len(known) >= WINDOWS_LIMIT or len(name) > NAME_LIMIT_CHARS):
            return False
        known[name] = observed
        return True

    def _current(self, backend: str) -> list[Observed]:
        now_s = self._clock() / 1e6
        known = self._known.get(backend, {}).values()
        return [one for one in known if one.window.resets_at is None or one.window.resets_at > now_s]


def _merged(before: PlanWindow, new: PlanWindow) -> PlanWindow:
    """``new`` with its gaps filled from ``before``, unless another period of the window has begun."""
    if before.resets_at and new.resets_at and abs(new.resets_at - before.resets_at) > SAME_RESET_S:
        return new
    known = {name: value for name, value in msgspec.structs.asdict(new).items() if value is not None}
    return msgspec.structs.replace(before, **known)
