"""What the runner tells its observer of a run: once at its beginning, once at its end, whatever the end is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from services.admission import AdmissionControl
from services.cancellation import CLIENT_GONE, Cancellation
from services.clis.probe import Prober
from services.compose.composition import Composition
from services.compose.parallel import plan_parallel
from services.errors import BackendUnavailable, QueueFull, RunFailed
from services.execution.driver import Limits
from services.execution.run import ProcessDriver
from services.processes.spawner import Spawner
from services.runner import Runner
from services.telemetry import RunTelemetry
from services.workdir import WorkdirRules
from tests.processes.test_runner import SHELL, shell

WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


class Notebook:
    """Keeps what it is told; gives every run a variable."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.finished: list[RunTelemetry] = []

    def begin(self, run: RunTelemetry) -> None:
        self.begun.append(WHO.get())
        run.env = {"OBSERVED": "yes"}

    def finish(self, run: RunTelemetry) -> None:
        self.finished.append(run)


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def observed() -> Iterator[tuple[Runner, Notebook]]:
    spawner = Spawner()
    missing = replace(SHELL, name="missing", command=("no-such-cli",))
    runner = Runner(
        {spec.name: spec for spec in (SHELL, missing)},
        driver=ProcessDriver(spawner),
        admission=AdmissionControl(1, queue_limit=1, queue_timeout_s=5, backend_limits={}),
        prober=Prober(os.environ),
        workdirs=WorkdirRules(),
        limits=Limits(),
        environ=os.environ,
    )
    runner.observer = notebook = Notebook()
    yield runner, notebook
    spawner.close()


def test_a_run_that_goes_well_has_all_its_moments_in_order(observed: tuple[Runner, Notebook]) -> None:
    runner, notebook = observed
    assert runner.run(shell("echo hello; echo $OBSERVED")).output == "hello\nyes\n"
    (run,) = notebook.finished
    moments = [run.requested_at, run.admitted_at, run.spawned_at, run.first_token_at, run.ended_at]
    assert moments == sorted(moments)  # type: ignore[type-var]
    assert (run.backend, run.outcome, run.start, run.refusal) == ("shell", "completed", "cold", None)


@pytest.mark.parametrize(("script", "outcome"), [("exit 3", "backend"), ("sleep 9", "timeout")])
def test_a_run_that_fails_is_told_with_the_kind_of_its_failure(observed: tuple[Runner, Notebook], script: str, outcome: str) -> None:
    runner, notebook = observed
    runner.run(shell(script, timeout_s=0.3))
    (run,) = notebook.finished
    assert (run.outcome, run.first_token_at) == (outcome, None)


def test_a_run_whose_reader_leaves_is_told_once_as_cancelled(observed: tuple[Runner, Notebook]) -> None:
    runner, notebook = observed
    with runner.stream(shell("echo x; sleep 9")) as stream:
        next(stream)
    stream.close()
    assert [run.outcome for run in notebook.finished] == ["cancelled"]


def test_what_is_never_started_is_told_with_the_reason(observed: tuple[Runner, Notebook]) -> None:
    runner, notebook = observed
    with pytest.raises(BackendUnavailable):
        runner.stream(replace(shell("x"), backend="missing"))
    with runner.stream(shell("sleep 9")):
        cancellation = Cancellation()
        waiting = gevent.spawn(runner.stream, shell("echo 2"), cancellation)
        while not runner.admission.queued:
            gevent.sleep(0.01)
        with pytest.raises(QueueFull):
            runner.stream(shell("echo 3"))
        cancellation.cancel(CLIENT_GONE)
        waiting.join()
        assert isinstance(waiting.exception, RunFailed)
    assert [run.outcome for run in notebook.finished] == ["backend_unavailable", "queue_full", "cancelled", "cancelled"]
    assert [bool(run.refusal) for run in notebook.finished] == [True, True, True, False]
    assert [run.admitted_at for run in notebook.finished][:3] == [None] * 3


def test_the_runs_of_a_composition_know_whose_request_they_are_of(observed: tuple[Runner, Notebook]) -> None:
    runner, notebook = observed
    WHO.set("request-1")
    with Composition(runner, plan_parallel(runner, [shell("echo a"), shell("echo b")], max_parallel=2, fail_fast=False)) as composition:
        list(composition)
    WHO.set("nobody")
    assert notebook.begun == ["request-1", "request-1"]
