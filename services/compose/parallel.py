"""Several prompts in parallel, and one prompt on several backends: independent runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from services.compose.plan import CONCURRENCY_LIMIT, Plan, prepare_all
from services.requests import RunRequest
from services.runner import Runner


def plan_parallel(runner: Runner, tasks: Sequence[RunRequest], *, max_parallel: int, fail_fast: bool) -> Plan:
    """At most ``max_parallel`` tasks at a time, started in order. Raises InvalidRequest."""
    return Plan(
        labels=tuple(f"task {index}" for index in range(len(tasks))),
        invocations=prepare_all(runner, tasks, "tasks"),
        concurrency=max_parallel,
        halts_on="fail_fast" if fail_fast else "",
    )


def plan_compare(
    runner: Runner, targets: Sequence[RunRequest], *, sequential: bool, field: str = "targets", shared: Collection[str] = ()
) -> Plan:
    """The same prompt for every target, `CONCURRENCY_LIMIT` at a time or one after the other.

    No other backend answers for a target. ``field``: name of the targets in the request; ``shared``: its fields outside of ``field``.
    Raises InvalidRequest.
    """
    targets = [replace(target, may_fall_back=False) for target in targets]
    return Plan(
        labels=tuple(f"target {index}" for index in range(len(targets))),
        invocations=prepare_all(runner, targets, field, shared),
        concurrency=1 if sequential else min(len(targets), CONCURRENCY_LIMIT),
    )
