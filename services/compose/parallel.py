"""Several prompts at once, and one prompt on several backends: both are runs that know nothing of each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from services.compose.plan import AT_ONCE_LIMIT, Plan, prepare_all
from services.requests import RunRequest
from services.runner import Runner


def plan_parallel(runner: Runner, tasks: Sequence[RunRequest], *, max_parallel: int, fail_fast: bool) -> Plan:
    """``max_parallel`` of the tasks at a time, begun in their order. Raises InvalidRequest."""
    return Plan(
        labels=tuple(f"task {index}" for index in range(len(tasks))),
        invocations=prepare_all(runner, tasks, "tasks"),
        at_once=max_parallel,
        halts_on="fail_fast" if fail_fast else "",
    )


def plan_compare(
    runner: Runner, targets: Sequence[RunRequest], *, sequential: bool, field: str = "targets", shared: Collection[str] = ()
) -> Plan:
    """The same prompt for every target: `AT_ONCE_LIMIT` at a time, or one after the other. ``field`` is what the caller calls them, ``shared``
    are the fields that stand beside it.

    Raises InvalidRequest.
    """
    return Plan(
        labels=tuple(f"target {index}" for index in range(len(targets))),
        invocations=prepare_all(runner, targets, field, shared),
        at_once=1 if sequential else min(len(targets), AT_ONCE_LIMIT),
    )
