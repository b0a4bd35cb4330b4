"""The planned runs of one request, checked before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from services.clis.spec import Invocation
from services.errors import InvalidRequest, RightMissing
from services.event_loop import yield_to_others
from services.requests import RunRequest, RunResult
from services.runner import Runner

RUNS_LIMIT = 1_000
"""Tasks, steps or targets per request."""
CONCURRENCY_LIMIT = 64
"""Targets of one request that run, or wait for a slot, at a time."""

Status = Literal["completed", "failed", "cancelled", "skipped"]
"""``cancelled``: started, then stopped by the server; ``skipped``: not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one run. Unless it is ``completed``, its result has a failure."""

    status: Status
    result: RunResult


Fill = Callable[[int, Sequence[Outcome | None]], RunRequest]
"""Builds the request of run ``index`` from the outcomes of earlier runs, when its turn comes. Raises NothingToFill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The runs, in order. A dry run returns their ``invocations``."""

    labels: tuple[str, ...]
    """Names of the runs in messages: `task 2`, `step 'review'`."""
    invocations: tuple[Invocation, ...]
    concurrency: int
    """How many run at a time."""
    halts_on: str = ""
    """The option by which one failure stops the other runs; empty: they continue."""
    fill: Fill | None = None
    """None: each run uses its invocation's request."""

    def request_of(self, index: int, outcomes: Sequence[Outcome | None]) -> RunRequest:
        return self.fill(index, outcomes) if self.fill else self.invocations[index].request


class NothingToFill(InvalidRequest):
    """The run needs the output of a run that has none, so it is not started."""


def check_count(count: int, field: str) -> None:
    """Raises InvalidRequest, naming the limit."""
    if not 1 <= count <= RUNS_LIMIT:
        raise InvalidRequest(f"{field} has {count} entries; 1 to {RUNS_LIMIT} are allowed", field=field, issue="wrong number")


def prepare_all(runner: Runner, requests: Sequence[RunRequest], field: str, shared: Collection[str] = ()) -> tuple[Invocation, ...]:
    """Make all checks of the runner; errors name the place in ``field``. The runs are ephemeral.

    ``shared``: the fields outside of ``field`` that all runs share.
    """
    check_count(len(requests), field)
    invocations = []
    for index, request in enumerate(requests):
        with located(f"{field}[{index}]", shared):
            invocation = runner.prepare(replace(request, ephemeral=True))
            # It is prepared again at its start; until then a shared prompt is in memory only once.
            invocations.append(replace(invocation, stdin=b""))
        yield_to_others()
    return tuple(invocations)


@contextmanager
def located(place: str, shared: Collection[str] = ()) -> Iterator[None]:
    """Prefix the field of an InvalidRequest with ``place``, unless it is a shared one; name the place of a RightMissing."""
    try:
        yield
    except RightMissing as error:
        error.details["field"] = place
        error.message = f"{place}: {error.message}"
        error.args = (error.message,)
        raise
    except InvalidRequest as error:
        if error.field in shared:
            raise
        error.field = f"{place}.{error.field}" if error.field else place
        error.details["field"] = error.field
        error.message = f"{place}: {error.message}"
        error.args = (error.message,)
        raise
