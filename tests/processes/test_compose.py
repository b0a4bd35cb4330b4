"""Several runs of one request over real processes: `sh` stands in for a CLI, its stdin is the script."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import gevent
import pytest

from services.cancellation import CLIENT_GONE, SERVER_STOPS, Cancellation
from services.compose.composition import Composition
from services.compose.parallel import plan_compare, plan_parallel
from services.compose.plan import RUNS_LIMIT, Outcome
from services.decoding.rules import Rule, RulesDecoder
from services.errors import InvalidRequest, RunFailed
from services.events import Event, Failed, Started, Text, is_terminal
from services.execution.driver import Limits
from services.processes.spawner import Spawner
from services.requests import RunRequest
from services.runner import Runner
from tests.parts.processes import alive
from tests.processes.test_runner import SLEEP_WITH_CHILD, runner, shell

POLL_S = 0.01
PATIENCE_S = 20


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


def wait_until(check: object) -> None:
    """In a test that shares its thread with the greenlets it watches."""
    with gevent.Timeout(PATIENCE_S):
        while not check():  # type: ignore[operator]
            gevent.sleep(POLL_S)


def in_parallel(desk: Runner, scripts: Sequence[str], *, max_parallel: int = 8, fail_fast: bool = False) -> list[Outcome]:
    plan = plan_parallel(desk, [shell(script) for script in scripts], max_parallel=max_parallel, fail_fast=fail_fast)
    with Composition(desk, plan) as composition:
        return list(composition.outcomes())


def events_of(items: Iterator[tuple[int | None, list[Event]]]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = {}
    for index, batch in items:
        if index is not None:
            found.setdefault(index, []).extend(batch)
    return found


def test_results_come_in_the_order_of_the_tasks(spawner: Spawner, tmp_path: Path) -> None:
    late = f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; echo late"
    outcomes = in_parallel(runner(spawner), [late, f"echo early; touch {tmp_path}/go"])
    assert [outcome.result.output for outcome in outcomes] == ["late\n", "early\n"]
    assert [outcome.status for outcome in outcomes] == ["completed", "completed"]


def test_max_parallel_of_them_go_at_a_time_and_no_more(spawner: Spawner, tmp_path: Path) -> None:
    """Each task says that it has begun, and goes on when it is told to."""
    scripts = [f"touch {tmp_path}/begun{n}; while [ ! -e {tmp_path}/go{n} ]; do sleep 0.01; done; echo {n}" for n in range(8)]
    desk = runner(spawner, places=8)
    plan = plan_parallel(desk, [shell(script) for script in scripts], max_parallel=4, fail_fast=False)

    def begun() -> int:
        return len([name for name in os.listdir(tmp_path) if name.startswith("begun")])

    with Composition(desk, plan) as composition:
        for ended in range(8):
            wait_until(lambda ended=ended: begun() == min(ended + 4, 8))
            desk.run(shell("true"))  # as long as a task needs to begin
            assert begun() == min(ended + 4, 8)
            wait_until(lambda ended=ended: desk.admission.running == min(4, 8 - ended))
            (tmp_path / f"go{ended}").touch()
        assert [outcome.result.output for outcome in composition.outcomes()] == [f"{n}\n" for n in range(8)]


def test_every_task_ends_with_one_terminal_event_whatever_becomes_of_it(spawner: Spawner) -> None:
    desk = runner(spawner)
    missing = RunRequest(backend="missing", prompt="x")
    plan = plan_parallel(desk, [shell("echo a"), missing, shell("exit 3"), shell("echo b")], max_parallel=2, fail_fast=False)
    with Composition(desk, plan) as composition:
        found = events_of(composition)
        outcomes = composition.outcomes()
    assert sorted(found) == [0, 1, 2, 3]
    for told in found.values():
        assert [is_terminal(event) for event in told] == [False] * (len(told) - 1) + [True]
    assert [outcome.status for outcome in outcomes] == ["completed", "failed", "failed", "completed"]
    assert outcomes[1].result.failure
    assert outcomes[1].result.failure.kind == "unavailable"
    assert outcomes[2].result.exit_code == 3


def test_fail_fast_stops_those_that_go_and_starts_no_more(spawner: Spawner, tmp_path: Path) -> None:
    desk = runner(spawner)
    hang = f"echo $$ >> {tmp_path}/pids; setsid sleep 600 & echo $! >> {tmp_path}/pids; sleep 600"
    fail = f"while [ $(cat {tmp_path}/pids 2>/dev/null | wc -l) -lt 2 ]; do sleep 0.01; done; exit 5"
    outcomes = in_parallel(desk, [hang, fail, f"touch {tmp_path}/started"], max_parallel=2, fail_fast=True)
    assert [outcome.status for outcome in outcomes] == ["cancelled", "failed", "skipped"]
    messages = [outcome.result.failure.message for outcome in outcomes if outcome.result.failure]
    assert messages[0] == "stopped: task 1 failed and fail_fast is set"
    assert messages[2] == "not started: task 1 failed and fail_fast is set"
    assert not [pid for pid in map(int, (tmp_path / "pids").read_text().split()) if alive(pid)]
    assert not (tmp_path / "started").exists()
    assert (desk.admission.running, desk.admission.queued) == (0, 0)


def test_fail_fast_ends_the_wait_for_a_place_too(spawner: Spawner) -> None:
    desk = runner(spawner, places=1)
    tasks = [shell("sleep 600"), RunRequest(backend="missing", prompt="x")]
    plan = plan_parallel(desk, tasks, max_parallel=2, fail_fast=True)
    with desk.stream(shell("sleep 600")), Composition(desk, plan) as composition:
        assert [outcome.status for outcome in composition.outcomes()] == ["skipped", "failed"]
    assert desk.admission.queued == 0


def test_without_fail_fast_the_others_go_on(spawner: Spawner) -> None:
    outcomes = in_parallel(runner(spawner), ["exit 5", "echo still"], max_parallel=1)
    assert [outcome.status for outcome in outcomes] == ["failed", "completed"]


def test_a_task_without_a_place_fails_alone(spawner: Spawner) -> None:
    desk = runner(spawner, places=1, queue_limit=0)
    outcomes = in_parallel(desk, ["sleep 0.2; echo first", "echo second"], max_parallel=2)
    assert [outcome.status for outcome in outcomes] == ["completed", "failed"]
    assert outcomes[1].result.failure
    assert "server.max_queued_runs" in outcomes[1].result.failure.message


def begun_sleepers(desk: Runner, cancellation: Cancellation | None = None) -> tuple[Composition, list[int]]:
    """Two tasks that sleep and a third that waits for its turn; and the ids that the two told."""
    scripts = [SLEEP_WITH_CHILD, SLEEP_WITH_CHILD, "true"]
    plan = plan_parallel(desk, [shell(script) for script in scripts], max_parallel=2, fail_fast=False)
    composition = Composition(desk, plan, cancellation)
    told = ""
    while told.count("\n") < 4:
        told += "".join(event.text for event in next(composition)[1] if isinstance(event, Text))
    return composition, [int(word) for word in told.split()]


def test_a_client_that_goes_takes_all_runs_along(spawner: Spawner) -> None:
    desk = runner(spawner)
    cancellation = Cancellation()
    composition, pids = begun_sleepers(desk, cancellation)
    gevent.spawn(cancellation.cancel, CLIENT_GONE)
    ends = [event for told in events_of(composition).values() for event in told if is_terminal(event)]
    assert ends[:2] == [CLIENT_GONE, CLIENT_GONE]
    with pytest.raises(RunFailed):
        composition.outcomes()
    composition.close()
    assert not [pid for pid in pids if alive(pid)]
    assert desk.admission.running == 0


def test_the_server_s_stop_ends_those_that_go_and_starts_no_more(spawner: Spawner) -> None:
    desk = runner(spawner)
    composition, _ = begun_sleepers(desk)
    desk.cancel_all(SERVER_STOPS)
    with composition:
        assert [outcome.status for outcome in composition.outcomes()] == ["cancelled", "cancelled", "skipped"]


def test_closed_early_nothing_is_left(spawner: Spawner) -> None:
    desk = runner(spawner)
    composition, pids = begun_sleepers(desk)
    composition.close()
    composition.close()
    assert not [pid for pid in pids if alive(pid)]
    assert (desk.admission.running, list(composition)) == (0, [])


def test_closed_while_every_run_waits_for_the_reader_nothing_is_left(spawner: Spawner) -> None:
    desk = runner(spawner)
    composition = Composition(desk, plan_parallel(desk, [shell("yes")] * 4, max_parallel=4, fail_fast=False))
    next(composition)
    wait_until(lambda: composition._queue.full())
    with gevent.Timeout(PATIENCE_S):
        composition.close()
    assert desk.admission.running == 0


def test_a_slow_reader_slows_the_clis(spawner: Spawner, tmp_path: Path) -> None:
    """The CLI tells how far it has come; with nobody reading it comes to a halt long before its end."""
    desk = runner(spawner, Limits(max_output_bytes=1 << 30))
    script = f"n=0; echo 0 > {tmp_path}/at; while [ $n -lt 400 ]; do head -c 1000000 /dev/zero | tr '\\0' '\\n'; n=$((n+1)); echo $n > {tmp_path}/at; done"
    with Composition(desk, plan_parallel(desk, [shell(script)], max_parallel=1, fail_fast=False)) as composition:
        wait_until(lambda: composition._queue.full())
        seen: list[str] = []

        def stands_still() -> bool:
            desk.run(shell("sleep 0.1"))
            seen.append((tmp_path / "at").read_text())
            return len(seen) > 1 and seen[-1] == seen[-2]

        wait_until(stands_still)
        assert int(seen[-1]) < 50


def test_everything_that_can_be_refused_is_refused_before_anything_starts(spawner: Spawner, tmp_path: Path) -> None:
    desk = runner(spawner)
    good = shell(f"touch {tmp_path}/started")
    for bad, field in (
        (RunRequest(backend="nobody", prompt="x"), "backend"),
        (shell("x", workdir="/nowhere"), "workdir"),
        (shell(" "), "prompt"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            plan_parallel(desk, [good, bad], max_parallel=2, fail_fast=False)
        assert (caught.value.field, caught.value.details["field"]) == (f"tasks[1].{field}", f"tasks[1].{field}")
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("count", [0, RUNS_LIMIT + 1])
def test_the_number_of_runs_has_a_limit_and_the_error_names_it(spawner: Spawner, count: int) -> None:
    with pytest.raises(InvalidRequest, match=f"targets has {count} entries; 1 to {RUNS_LIMIT}"):
        plan_compare(runner(spawner), [shell("true")] * count, sequential=False)


@pytest.mark.parametrize("sequential", [False, True])
def test_compare_runs_every_target(spawner: Spawner, tmp_path: Path, sequential: bool) -> None:
    desk = runner(spawner)
    script = f"echo $$ >> {tmp_path}/pids; wc -l < {tmp_path}/pids"
    if not sequential:  # then each waits until both are there
        script += f"; while [ $(wc -l < {tmp_path}/pids) -lt 2 ]; do sleep 0.01; done"
    with Composition(desk, plan_compare(desk, [shell(script)] * 2, sequential=sequential)) as composition:
        outputs = [outcome.result.output for outcome in composition.outcomes()]
    assert len(outputs) == 2
    if sequential:
        assert [output.strip() for output in outputs] == ["1", "2"]


def test_the_runs_keep_no_session(spawner: Spawner) -> None:
    plan = plan_parallel(runner(spawner), [shell("true", ephemeral=False)], max_parallel=1, fail_fast=False)
    assert plan.invocations[0].request.ephemeral


def test_a_failure_of_ours_reaches_the_reader_and_leaves_nothing(spawner: Spawner) -> None:
    desk = runner(spawner)
    plan = plan_parallel(desk, [shell("sleep 600"), shell("true")], max_parallel=2, fail_fast=False)
    broken = Composition(desk, plan)
    broken._outcomes.clear()
    with pytest.raises(IndexError), broken:
        list(broken)
    assert desk.admission.running == 0


def test_a_run_that_passes_its_time_limit_failed(spawner: Spawner) -> None:
    desk = runner(spawner)
    plan = plan_parallel(desk, [shell("sleep 600", timeout_s=0.2)], max_parallel=1, fail_fast=False)
    with Composition(desk, plan) as composition:
        (outcome,) = composition.outcomes()
    assert outcome.status == "failed"
    assert isinstance(outcome.result.failure, Failed)
    assert outcome.result.failure.kind == "timeout"


def test_the_cli_s_own_session_id_is_left_out_of_events_and_results(spawner: Spawner) -> None:
    """These runs are ephemeral: nobody could resume the session."""
    rules = (Rule("started", {"type": "init"}, {"session_id": "session"}), Rule("text", {"type": "text"}, {"text": "text"}))
    desk = runner(spawner)
    desk.backends = {"shell": replace(desk.backends["shell"], decoder=partial(RulesDecoder, rules))}
    script = """echo '{"type": "init", "session": "cli-1"}'; echo '{"type": "text", "text": "x"}'"""
    with Composition(desk, plan_parallel(desk, [shell(script)], max_parallel=1, fail_fast=False)) as composition:
        events = events_of(composition)[0]
        (outcome,) = composition.outcomes()
    assert events[0] == Started(None)
    assert (outcome.status, outcome.result.session_id) == ("completed", None)
