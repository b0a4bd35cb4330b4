"""What several runs of one request shall be: checked whole, before anything starts. Starts nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import gevent

from services.clis.spec import Invocation
from services.errors import InvalidRequest
from services.requests import RunRequest, RunResult
from services.runner import Runner

RUNS_LIMIT = 1_000
"""Tasks, steps or targets of one request."""
AT_ONCE_LIMIT = 64
"""Targets of one request that run, or wait for their place, at a time."""

Status = Literal["completed", "failed", "cancelled", "skipped"]
"""``cancelled`` had started and was stopped by us; ``skipped`` has never been started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one of the runs. A result that is not ``completed`` has a failure."""

    status: Status
    result: RunResult


Fill = Callable[[int, Sequence[Outcome | None]], RunRequest]
"""The request of run ``index``, made when its turn comes, from what came of those before it. Raises NothingToFill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The runs, in order. ``invocations`` are what would be started, which is also the answer of a dry run."""

    labels: tuple[str, ...]
    """How a run is called in messages: `task 2`, `step 'review'`."""
    invocations: tuple[Invocation, ...]
    at_once: int
    """How many of them go at a time."""
    halts_on: str = ""
    """The option that makes one failure end the others; empty: they go on."""
    fill: Fill | None = None
    """None: every run's request is its invocation's."""

    def request_of(self, index: int, outcomes: Sequence[Outcome | None]) -> RunRequest:
        return self.fill(index, outcomes) if self.fill else self.invocations[index].request


class NothingToFill(InvalidRequest):
    """The run needs the output of one that has none, so it is not started."""


def check_count(count: int, field: str) -> None:
    """Raises InvalidRequest, naming the limit."""
    if not 1 <= count <= RUNS_LIMIT:
        raise InvalidRequest(f"{field} has {count} entries; between 1 and {RUNS_LIMIT} are possible", field=field, issue="wrong number")


def prepare_all(runner: Runner, requests: Sequence[RunRequest], field: str, shared: Collection[str] = ()) -> tuple[Invocation, ...]:
    """Everything that the runner would refuse is refused here, with its place in ``field``. The runs keep no session.

    ``shared`` are the fields that all runs have from outside of ``field``.
    """
    check_count(len(requests), field)
    invocations = []
    for index, request in enumerate(requests):
        with located(f"{field}[{index}]", shared):
            invocation = runner.prepare(replace(request, ephemeral=True))
            # It is prepared again when it starts; until then a prompt that all runs share is in memory once.
            invocations.append(replace(invocation, stdin=b""))
        gevent.sleep(0)
    return tuple(invocations)


@contextmanager
def located(place: str, shared: Collection[str] = ()) -> Iterator[None]:
    """Put ``place`` before the field that an InvalidRequest names, if it is not a shared one."""
    try:
        yield
    except InvalidRequest as error:
        if error.field in shared:
            raise
        error.field = f"{place}.{error.field}" if error.field else place
        error.details["field"] = error.field
        error.message = f"{place}: {error.message}"
        error.args = (error.message,)
        raise
