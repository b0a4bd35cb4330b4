"""Which processes wait for whom: idle ones by what they were started with. Decides; starts and ends nothing."""

from __future__ import annotations

import signal
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from time import monotonic
from typing import Any

import gevent

from services.clis.spec import Invocation
from services.execution.backoff import Backoff
from services.execution.protocols import Greeting
from services.processes.child import Child
from services.processes.marks import RunFolder

KILLED_S = 2.0
"""How long a process may take to be gone after SIGKILL."""
SHELVES_LIMIT = 32
"""Kinds of runs that are remembered; the one that was not asked for the longest is forgotten."""


def key_of(invocation: Invocation) -> Hashable | None:
    """What cannot be changed once a process has been started, whatever its folder is called; None where it is a session's."""
    if invocation.request.resume:
        return None

    def fixed(text: str) -> str:
        return text.replace(invocation.run_dir, "{run_dir}")

    files = {path: content for path, content in invocation.files.items() if path not in invocation.prompt_files}
    return (
        tuple(map(fixed, invocation.argv)),
        frozenset((name, fixed(value)) for name, value in invocation.env.items()),
        invocation.cwd,
        frozenset((fixed(path), sha256(fixed(content).encode()).digest()) for path, content in files.items()),
        frozenset((fixed(path), target) for path, target in invocation.links.items()),
        invocation.folders,
    )


@dataclass(slots=True, eq=False)
class Idle:
    """A process that waits for its one run."""

    child: Child
    folder: RunFolder
    greeting: Greeting
    parameters: Mapping[str, Any] | None
    """What it was initialised with; None: not yet."""
    state: object
    """Of the files it has read (`Warmth.state`)."""
    forget: Callable[[], None] = lambda: None
    """Removes what it has left behind elsewhere, where it was never asked."""
    since: float = field(default_factory=monotonic)

    @property
    def has_spoken(self) -> bool:
        """Without having been asked, though it should not."""
        return self.greeting.is_silent and not self.child.is_silent

    def close(self) -> None:
        if self.greeting.is_silent:  # the end of its stdin would be its prompt: Gemini CLI then asks its model (0.61.0, measured)
            self.child.stop(signal.SIGKILL, 0.0)
            self.child.wait_exit(KILLED_S)
        self.child.close()
        gevent.get_hub().threadpool.apply(self.forget)  # looks through folders of any size
        self.folder.remove()


@dataclass(slots=True, eq=False)
class Shelf:
    """The idle processes of one kind, and what is known of who asks for them."""

    invocation: Invocation
    """Of the first run of the kind: the next process is started by it."""
    floor: int = 0
    wanted: int = 0
    idle: deque[Idle] = field(default_factory=deque)
    parameters: Mapping[str, Any] | None = None
    """Of the latest run."""
    is_steady: bool = False
    """The latest two runs had the same: it is worth initialising the next process with them beforehand."""
    backoff: Backoff = field(default_factory=Backoff)
    """Of starts that failed."""

    def expect(self, parameters: Mapping[str, Any]) -> None:
        self.is_steady = parameters == self.parameters
        self.parameters = parameters

    def take(self, parameters: Mapping[str, Any]) -> Idle | None:
        """One that is initialised as the run needs it, else one that is not initialised yet."""
        found = next((one for one in self.idle if one.parameters == parameters), None)
        found = found or next((one for one in self.idle if one.parameters is None), None)
        if found:
            self.idle.remove(found)
        return found

    def record_failure(self) -> None:
        """A process for it could not be started: only those that are always to be there are tried again by themselves."""
        self.wanted = self.floor
        self.backoff.record_failure()

    def take_all(self) -> list[Idle]:
        taken = list(self.idle)
        self.idle.clear()
        return taken

    def clear(self) -> list[Idle]:
        """Every idle process; nothing is wanted any more, not even what is just being started."""
        self.wanted = self.floor = 0
        return self.take_all()


class Shelves:
    """All of one backend. The order is that of their last use."""

    def __init__(self) -> None:
        self._shelves: OrderedDict[Hashable, Shelf] = OrderedDict()

    def __iter__(self) -> Iterator[Shelf]:
        return iter(tuple(self._shelves.values()))

    @property
    def idle_count(self) -> int:
        return sum(len(shelf.idle) for shelf in self._shelves.values())

    def visit(self, key: Hashable, invocation: Invocation) -> tuple[Shelf, list[Idle]]:
        """The shelf of ``key``, new where there is none, now the latest used; and what has lost its place by that."""
        if shelf := self._shelves.get(key):
            self._shelves.move_to_end(key)
            return shelf, []
        shelf = self._shelves[key] = Shelf(invocation)
        lost: list[Idle] = []
        while len(self._shelves) > SHELVES_LIMIT:
            oldest = next((key for key, one in self._shelves.items() if not one.floor and one is not shelf), None)
            if oldest is None:
                break
            lost += self._shelves.pop(oldest).clear()
        return shelf, lost

    def next_to_fill(self) -> Shelf | None:
        """The latest used that lacks a process. What nobody has asked for since its start failed waits for its back-off."""
        lacking = (shelf for shelf in reversed(self._shelves.values()) if len(shelf.idle) < shelf.wanted)
        return next((shelf for shelf in lacking if shelf.wanted > shelf.floor or shelf.backoff.is_due), None)

    def give_up_for(self, shelf: Shelf) -> Idle | None:
        """An idle process of a shelf that was used before ``shelf``, taken off so that there is room."""
        for other in self._shelves.values():
            if other is shelf:
                return None
            if len(other.idle) > other.floor:
                other.wanted = max(other.floor, len(other.idle) - 1)
                return other.idle.popleft()
        return None

    def take_off_all(self) -> list[Idle]:
        """Every idle process; nothing is wanted any more."""
        taken = [one for shelf in self._shelves.values() for one in shelf.clear()]
        self._shelves.clear()
        return taken
