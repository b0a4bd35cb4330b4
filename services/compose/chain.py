"""Prompts run one after the other; each may contain the output of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.compose.placeholders import fill, references
from services.compose.plan import NothingToFill, Outcome, Plan, located, prepare_all
from services.errors import BackendUnavailable, InvalidRequest
from services.requests import RunRequest
from services.runner import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """``name``: how later steps refer to this step's output. Empty: only as the previous step."""

    request: RunRequest
    name: str = ""


def plan_chain(runner: Runner, steps: Sequence[Step], *, stop_on_failure: bool, pass_working_dir: bool) -> Plan:
    """One step at a time. Raises InvalidRequest, or BackendUnavailable: a chain that cannot complete is not started.

    ``pass_working_dir``: a step without a workdir uses that of the step before it. With ``stop_on_failure`` off a step gets
    the partial output of a failed one; if that is empty, the step is skipped.
    """
    labels = tuple(f"step {step.name!r}" if step.name else f"step {index}" for index, step in enumerate(steps))
    names: dict[str, int] = {}
    for index, step in enumerate(steps):
        if step.name and names.setdefault(step.name, index) != index:
            with located(f"steps[{index}]"):
                raise InvalidRequest(f"an earlier step is already named {step.name!r}", field="name", issue="not unique")
    requests = [step.request for step in steps]
    if pass_working_dir:
        requests = _with_workdirs_passed_on(requests)
    invocations = prepare_all(runner, requests, "steps")
    for index, request in enumerate(requests):
        with located(f"steps[{index}]"):
            for _ in references(request.prompt, index, names):
                pass
    for index, invocation in enumerate(invocations):
        if why := runner.why_unavailable(invocation):
            raise BackendUnavailable(f"{labels[index]}: {why}", backend=invocation.spec.name, field=f"steps[{index}].backend")

    def request_of(number: int, outcomes: Sequence[Outcome | None]) -> RunRequest:
        def output(index: int) -> str:
            outcome = outcomes[index]
            if not outcome or not outcome.result.output.strip():
                raise NothingToFill(f"it needs the output of {labels[index]}, which is empty", issue="no output")
            return outcome.result.output

        request = invocations[number].request
        return replace(request, prompt=fill(request.prompt, number, names, output))

    return Plan(
        labels=labels, invocations=invocations, concurrency=1, halts_on="stop_on_failure" if stop_on_failure else "", fill=request_of
    )


def _with_workdirs_passed_on(requests: Sequence[RunRequest]) -> list[RunRequest]:
    workdir: str | None = None
    passed = []
    for request in requests:
        workdir = request.workdir or workdir
        passed.append(replace(request, workdir=workdir))
    return passed
