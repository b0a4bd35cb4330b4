"""Chains over real processes: what a step said is in the next one's prompt, once and unchanged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.compose.chain import Step, plan_chain
from services.compose.composition import Composition
from services.compose.plan import Outcome
from services.errors import BackendUnavailable, InvalidRequest
from services.processes.spawner import Spawner
from services.requests import RunRequest
from services.runner import Runner
from tests.processes.test_runner import runner, shell


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


def chain(desk: Runner, *steps: Step, stop_on_failure: bool = True, pass_working_dir: bool = False) -> list[Outcome]:
    plan = plan_chain(desk, steps, stop_on_failure=stop_on_failure, pass_working_dir=pass_working_dir)
    with Composition(desk, plan) as composition:
        return list(composition.outcomes())


def step(script: str, name: str = "", **more: object) -> Step:
    return Step(request=shell(script, **more), name=name)


SAY = "cat <<'END' | head -c -1\n{}\nEND\n"


def outputs(outcomes: list[Outcome]) -> list[str]:
    return [outcome.result.output for outcome in outcomes]


def test_the_output_of_the_step_before_and_of_any_step_by_name(spawner: Spawner) -> None:
    said = chain(
        runner(spawner),
        step(SAY.format("one é漢字🙂"), "first"),
        step(SAY.format("two: {{previous}}"), "second"),
        step(SAY.format("three: {{previous}} / {{ steps.first.output }}")),
    )
    assert outputs(said) == ["one é漢字🙂", "two: one é漢字🙂", "three: two: one é漢字🙂 / one é漢字🙂"]


def test_a_placeholder_in_an_output_is_text(spawner: Spawner) -> None:
    said = chain(runner(spawner), step(SAY.format("\\{{previous}} \\{{steps.b.output}}"), "a"), step(SAY.format("{{previous}}"), "b"))
    assert outputs(said) == ["{{previous}} {{steps.b.output}}"] * 2


def test_a_failed_step_stops_the_chain(spawner: Spawner, tmp_path: Path) -> None:
    said = chain(runner(spawner), step("echo a"), step("exit 4", "broken"), step(f"touch {tmp_path}/started"))
    assert [outcome.status for outcome in said] == ["completed", "failed", "skipped"]
    assert said[2].result.failure
    assert said[2].result.failure.message == "not started: step 'broken' failed and stop_on_failure is set"
    assert not os.listdir(tmp_path)


def test_a_chain_that_goes_on_after_a_failure_never_has_a_hole_in_a_prompt(spawner: Spawner) -> None:
    said = chain(
        runner(spawner),
        step("exit 4", "mute"),
        step("echo {{steps.mute.output}}"),
        step("echo partial; exit 4", "broken"),
        step("echo got {{steps.broken.output}}"),
        stop_on_failure=False,
    )
    assert [outcome.status for outcome in said] == ["failed", "skipped", "failed", "completed"]
    assert said[1].result.failure
    assert said[1].result.failure.message == "not started: it needs the output of step 'mute', which is empty"
    assert said[3].result.output == "got partial\n"


def test_pass_working_dir_hands_a_named_workdir_on(spawner: Spawner, tmp_path: Path) -> None:
    there, other = tmp_path / "there", tmp_path / "other"
    there.mkdir()
    other.mkdir()
    steps = [step("pwd"), step("pwd", workdir=str(there)), step("pwd"), step("pwd", workdir=str(other)), step("pwd")]
    here = os.getcwd()
    assert outputs(chain(runner(spawner), *steps, pass_working_dir=True)) == [f"{path}\n" for path in (here, there, there, other, other)]
    assert outputs(chain(runner(spawner), *steps)) == [f"{path}\n" for path in (here, there, here, other, here)]


@pytest.mark.parametrize(
    ("prompts", "names", "field", "issue"),
    [
        (["{{previous}}"], [""], "steps[0].prompt", "no previous step"),
        (["a", "{{nothing}}"], ["", ""], "steps[1].prompt", "unknown placeholder"),
        (["a", "{{steps.b.outputs}}"], ["b", ""], "steps[1].prompt", "unknown placeholder"),
        (["a", "{{steps.c.output}}"], ["b", ""], "steps[1].prompt", "unknown step"),
        (["a {{steps.b.output}}", "b"], ["a", "b"], "steps[0].prompt", "step comes later"),
        (["a", "{{steps.b.output}}"], ["a", "b"], "steps[1].prompt", "step comes later"),
        (["a", "b"], ["a", "a"], "steps[1].name", "not unique"),
        (["a", "  "], ["", ""], "steps[1].prompt", "must not be empty"),
    ],
)
def test_what_cannot_be_filled_is_refused_before_anything_starts(
    spawner: Spawner, prompts: list[str], names: list[str], field: str, issue: str
) -> None:
    steps = [step(prompt, name) for prompt, name in zip(prompts, names, strict=True)]
    with pytest.raises(InvalidRequest) as caught:
        chain(runner(spawner), *steps)
    assert (caught.value.details["field"], caught.value.details["issue"]) == (field, issue)


def test_a_chain_whose_last_backend_is_missing_is_not_begun(spawner: Spawner, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="step 1: backend 'missing' is not available"):
        chain(runner(spawner), step(f"touch {tmp_path}/started"), Step(request=RunRequest(backend="missing", prompt="x")))
    assert not os.listdir(tmp_path)
