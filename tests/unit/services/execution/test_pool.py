"""The policy of the pool: which run gets which worker, how many there are, and when one ends. No processes, and a clock of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gevent
import pytest

from services.execution.circuit_breaker import FAILURES_LIMIT, RETRY_S
from services.execution.demand import KEYS_LIMIT
from services.execution.worker import Problem
from tests.unit.services.execution.fake_workers import FakeWorker, Harness

HARNESSES: list[Harness] = []


def pool(**options: Any) -> Harness:
    HARNESSES.append(Harness(**options))
    return HARNESSES[-1]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    while HARNESSES:
        HARNESSES.pop().pool.close()


def settle() -> None:
    """Let the greenlets that close workers run."""
    gevent.sleep(0)


# -- idle workers --


def test_the_second_run_of_a_kind_has_a_worker_started_for_the_third() -> None:
    one = pool()
    assert one.ask() is None
    one.pool.maintain()
    assert one.ready == []
    assert one.ask() is None
    one.pool.maintain()
    (worker,) = one.ready
    assert one.ask().worker is worker
    assert one.ready == []


def test_a_worker_serves_one_run_and_is_replaced() -> None:
    one = pool()
    one.demand()
    first = one.ask().worker
    one.pool.maintain()
    second = one.ask().worker
    assert first is not second


def test_each_miss_keeps_one_more_up_to_the_limit() -> None:
    one = pool(max=3)
    one.demand(times=2)
    assert len(one.ready) == 1
    one.demand(times=2)
    assert len(one.ready) == 2
    one.demand(times=9)
    assert len(one.ready) == 3


@pytest.mark.parametrize("other", [{"cwd": "/other"}, {"model": "gemini-2.5-pro"}], ids=["folder", "model"])
def test_a_run_of_another_key_gets_no_worker_of_this_one(other: dict[str, Any]) -> None:
    one = pool()
    one.demand()
    assert one.ask(**other) is None
    assert len(one.ready) == 1


def test_a_worker_is_initialized_early_with_what_the_latest_two_runs_had() -> None:
    one = pool()
    one.demand(system_prompt="S")
    assert [parameters for _, parameters in one.factory.started] == [{"system_prompt": "S"}]
    assert one.ask(system_prompt="T") is None
    assert one.ask(system_prompt="S").worker.parameters == {"system_prompt": "S"}


def test_a_worker_that_is_not_initialized_serves_any_run_of_its_key_after_one_that_is() -> None:
    one = pool()
    one.ask(system_prompt="S")
    one.ask(system_prompt="T")
    one.pool.maintain()
    (blank,) = one.ready
    assert blank.parameters is None
    one.ask(system_prompt="X", cwd="/other")
    one.pool.prestart(one.factory.started[0][0].invocation, 2)
    one.pool.maintain()
    assert [worker.parameters for worker in one.ready] == [None, {"system_prompt": "S"}]
    assert one.ask(system_prompt="S").worker.parameters == {"system_prompt": "S"}
    assert one.ask(system_prompt="U").worker is blank


def test_a_worker_that_has_read_older_files_is_not_used_and_is_replaced() -> None:
    one = pool()
    one.demand()
    (old,) = one.ready
    one.factory.now_state = "changed"
    assert one.ask() is None
    one.pool.maintain()
    settle()
    assert old.is_closed
    assert all(worker.need.state == "changed" for worker in one.ready)
    assert one.ready


def test_after_a_run_with_tools_no_idle_worker_of_its_folder_stays() -> None:
    one = pool()
    one.demand()
    one.demand("/other")
    one.pool.on_run_finished("/work", used_tools=False)
    assert len(one.ready) == 2
    one.pool.on_run_finished("/work", used_tools=True)
    assert one.folders == ["other"]


def test_a_worker_whose_folder_cannot_be_used_is_ended_and_the_run_has_a_process_of_its_own() -> None:
    one = pool()
    one.demand()
    (worker,) = one.ready
    worker.run_error = OSError("disk full")
    assert one.ask() is None
    settle()
    assert worker.is_closed


# -- when a worker ends: `has_expired`, idle for too long, short memory --


@pytest.mark.parametrize(
    ("limits", "change"),
    [({"max_age_s": 10.0}, {}), ({}, {"rss_mb": 900.0}), ({}, {"is_sound": False})],
    ids=["old", "large", "not sound"],
)
def test_an_expired_worker_serves_nobody_and_is_replaced(limits: dict[str, float], change: dict[str, Any]) -> None:
    one = pool(**limits)
    one.demand()
    (old,) = one.ready
    vars(old).update(change)
    one.now += 20
    assert one.ask() is None
    one.pool.maintain()
    settle()
    assert old.is_closed
    assert old not in one.ready
    assert one.ready


def test_a_worker_that_was_idle_for_too_long_is_not_replaced() -> None:
    one = pool(idle_s=60.0)
    one.demand()
    one.later(59)
    assert one.ready
    one.later(2)
    assert one.ready == []
    one.later(60)
    assert one.ready == []


def test_a_worker_of_the_minimum_is_never_idle_for_too_long_but_is_replaced_when_it_is_old() -> None:
    one = pool(idle_s=60.0, max_age_s=600.0)
    one.prestart(1)
    (first,) = one.ready
    one.later(500)
    assert one.ready == [first]
    one.later(101)
    assert len(one.ready) == 1
    assert one.ready != [first]


def test_short_memory_starts_nothing_and_very_short_memory_ends_what_is_idle() -> None:
    one = pool(min_free_mb=100)
    one.demand()
    one.free = 99
    one.demand("/other")
    assert one.folders == ["work"]
    one.free = 49
    one.pool.maintain()
    assert one.ready == []
    one.free = 1000
    one.pool.maintain()
    assert one.ready


def test_a_kind_that_is_used_takes_the_place_of_one_that_was_used_before_it() -> None:
    one = pool(max=2)
    for folder in ("/a", "/b", "/c"):
        one.demand(folder)
    assert one.folders == ["b", "c"]
    one.pool.maintain()
    assert one.folders == ["b", "c"]


def test_the_minimum_gives_up_its_place_to_nobody() -> None:
    one = pool(max=2)
    one.prestart(1, "/a")
    one.prestart(1, "/b")
    one.demand("/c")
    assert one.folders == ["a", "b"]


def test_kinds_beyond_the_limit_are_forgotten_with_their_workers() -> None:
    one = pool(max=3)
    one.demand("/first")
    for number in range(KEYS_LIMIT):
        one.ask(f"/{number}")
    settle()
    assert one.ready == []
    assert one.factory.workers[0].is_closed


# -- failures --


def test_starts_that_fail_are_tried_again_for_the_minimum_alone_and_later_each_time(caplog: pytest.LogCaptureFixture) -> None:
    one = pool()
    one.factory.start_error = OSError("no more processes")
    one.prestart(1)
    for _ in range(4):
        one.later(0.1)
    assert caplog.text.count("a process could not be prestarted") == 1
    one.factory.start_error = None
    one.later(10)
    assert len(one.ready) == 1


def test_a_run_that_misses_tries_again_at_once() -> None:
    one = pool()
    one.factory.start_error = OSError("no more processes")
    one.demand()
    one.factory.start_error = None
    one.later(100)
    assert one.ready == []
    one.demand(times=1)
    assert len(one.ready) == 1


def test_failures_in_a_row_turn_the_pool_off_for_a_while() -> None:
    one = pool()
    one.factory.not_ready = Problem("it ended at once")
    for _ in range(FAILURES_LIMIT):
        assert one.breaker.is_closed
        one.demand()
    assert not one.breaker.is_closed
    one.factory.not_ready = None
    one.demand(times=5)
    assert one.ready == []
    one.now += RETRY_S
    one.demand()
    assert one.ready


def test_another_protocol_turns_it_off_at_once() -> None:
    one = pool()
    one.factory.not_ready = Problem("Unsupported control request", is_permanent=True)
    one.demand()
    assert not one.breaker.is_closed
    settle()
    assert all(worker.is_closed for worker in one.factory.workers)


def test_a_worker_too_large_from_its_start_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    one = pool(max_rss_mb=50)
    one.factory.rss_mb = 51
    one.demand()
    assert one.ready == []
    assert "as soon as it is up (backends.gemini.warm.max_rss_mb)" in caplog.text


def test_workers_that_fail_while_they_are_idle_count_as_well() -> None:
    one = pool()
    for _ in range(FAILURES_LIMIT):
        one.demand()
        for worker in one.ready:
            worker.is_sound, worker.problem = False, Problem("it ended while it was idle")
        one.pool.maintain()
        for worker in one.ready:
            worker.is_sound, worker.problem = False, Problem("it ended while it was idle")
        one.pool.maintain()
    assert not one.breaker.is_closed


# -- configuration --


def test_another_key_by_the_cli_s_configuration_replaces_the_minimum() -> None:
    one = pool()
    one.prestart(1)
    (old,) = one.ready
    one.factory.renewed_key = lambda key: (*key[:2], "new")
    one.factory.now_state = "changed"
    one.pool.maintain()
    one.pool.maintain()
    settle()
    assert old.is_closed
    assert [worker.need.key[-1] for worker in one.ready] == ["new"]  # type: ignore[index]


def test_the_same_configuration_ends_nothing_and_another_one_ends_all() -> None:
    one = pool()
    one.demand()
    workers = one.ready
    one.pool.reconfigure(replace(one.spec))
    assert one.ready == workers
    one.pool.reconfigure(replace(one.spec, extra_args=("--new",)))
    settle()
    assert one.ready == []
    assert all(worker.is_closed for worker in workers)
    one.pool.maintain()
    assert one.ready == []


def test_closing_ends_everything_and_waits_for_no_run() -> None:
    one = pool(is_multiplexed=True)
    one.demand(times=1)
    worker = one.ask().worker
    one.pool.close()
    assert worker.closes == [False]
    assert one.ready == []


def test_closing_ends_each_worker_once() -> None:
    one = pool()
    one.demand()
    one.pool.close()
    assert [worker.closes for worker in one.factory.workers] == [[False]]


def test_closing_hurries_a_worker_that_waits_for_its_runs() -> None:
    one = pool(is_multiplexed=True)
    one.demand(times=1)
    worker = one.ask().worker
    one.pool.drain()
    settle()
    one.pool.close()
    assert worker.closes == [True, False]


def test_a_worker_whose_start_ends_in_an_error_is_ended() -> None:
    one = pool()
    one.factory.not_ready = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        one.demand()
    settle()
    assert [worker.closes for worker in one.factory.workers] == [[True]]
    one.pool.maintain()
    assert len(one.factory.workers) == 1, "the next one is started after a while"


# -- session-bound workers --


def sessions(**options: Any) -> Harness:
    return pool(keeps_sessions=True, **options)


def begun(one: Harness, session_id: str) -> FakeWorker:
    """The worker that the first turn of a session leaves."""
    worker: FakeWorker = one.ask().finish(session_id)
    return worker


def test_the_next_turn_of_a_session_gets_its_worker_and_no_other_run_does() -> None:
    one = sessions()
    worker = begun(one, "s1")
    assert one.ask().worker is not worker
    run = one.ask(resume="s1")
    assert (run.worker, run.began_as) == (worker, "warm")
    assert one.ask(resume="s1").began_as == "cold"


@pytest.mark.parametrize("other", [{"model": "gemini-2.5-pro"}, {"system_prompt": "S"}, {"cwd": "/other"}], ids=str)
def test_a_turn_that_needs_another_process_ends_the_one_of_its_session_first(other: dict[str, Any]) -> None:
    one = sessions()
    worker = begun(one, "s1")
    assert one.ask(resume="s1", **other).began_as == "cold"
    assert worker.is_closed


@pytest.mark.parametrize(
    "change", [{"is_sound": False}, {"uses": 2}, {"rss_mb": 900.0}, {"started_at": -9000.0}], ids=["touched", "used up", "large", "old"]
)
def test_an_expired_worker_serves_no_next_turn(change: dict[str, Any]) -> None:
    one = sessions(max_uses=2)
    worker = begun(one, "s1")
    vars(worker).update(change)
    assert one.ask(resume="s1").began_as == "cold"
    assert worker.is_closed


def test_a_session_s_worker_that_was_idle_for_too_long_is_ended() -> None:
    one = sessions(idle_s=60.0)
    worker = begun(one, "s1")
    one.later(59)
    assert not worker.is_closed
    one.later(2)
    settle()
    assert worker.is_closed


def test_no_more_sessions_wait_than_allowed_and_the_oldest_goes_first() -> None:
    one = sessions(live_max=2)
    workers = [begun(one, f"s{number}") for number in range(4)]
    settle()
    assert [worker.is_closed for worker in workers] == [True, True, False, False]


@pytest.mark.parametrize("limits", [{"live_max": 0}, {"max_uses": 1}, {"max_rss_mb": 0}], ids=str)
def test_limits_keep_no_worker_for_a_session(limits: dict[str, Any]) -> None:
    one = sessions(**limits)
    run = one.ask()
    if run is not None:
        assert run.finish("s1").is_closed
    assert one.pool.workers == []


def test_a_worker_that_names_no_session_is_not_kept_for_anybody() -> None:
    one = sessions()
    worker = begun(one, "")
    assert worker.is_closed
    assert one.ask().worker is not worker


def test_short_memory_keeps_no_worker_for_a_session() -> None:
    one = sessions(min_free_mb=100)
    run = one.ask()
    one.free = 99
    assert run.finish("s1").is_closed


@pytest.mark.parametrize("change", ["drain", "reconfigure"])
def test_a_turn_that_began_before_a_change_leaves_no_worker(change: str) -> None:
    one = sessions()
    run = one.ask()
    if change == "drain":
        one.pool.drain()
    else:
        one.pool.reconfigure(replace(one.spec, extra_args=("--new",)))
    assert run.finish("s1").is_closed
    assert one.pool.workers == []


def test_an_evicted_session_has_no_worker_when_the_call_returns() -> None:
    one = sessions()
    first, second = begun(one, "s1"), begun(one, "s2")
    one.pool.evict_session("s1")
    assert (first.is_closed, second.is_closed) == (True, False)


def test_an_idle_worker_becomes_the_one_of_its_first_session() -> None:
    one = sessions()
    one.prestart(1)
    (idle,) = one.ready
    bound = begun(one, "s1")
    assert bound.pid == idle.pid
    assert one.ask(resume="s1").worker is bound


def test_session_workers_are_not_counted_as_ready() -> None:
    one = sessions()
    begun(one, "s1")
    assert one.pool.ready_count == 0


# -- multiplexed workers --


def test_the_first_run_has_a_multiplexed_worker_started_that_serves_all_that_follow() -> None:
    one = pool(is_multiplexed=True)
    assert one.ask() is None
    one.pool.maintain()
    assert {one.ask().worker.pid for _ in range(3)} == {one.ready[0].pid}
    assert len(one.ready) == 1


def test_a_used_up_multiplexed_worker_is_replaced_while_its_runs_go_on() -> None:
    one = pool(is_multiplexed=True, max_uses=2)
    one.demand(times=1)
    old = one.ask().worker
    assert one.ask().worker is old
    assert one.ask() is None
    one.pool.maintain()
    settle()
    assert old.is_closed
    assert old.closes == [True]
    assert one.ask().worker is not old


def test_a_busy_multiplexed_worker_is_never_idle_for_too_long() -> None:
    one = pool(is_multiplexed=True, idle_s=60.0)
    one.demand(times=1)
    run = one.ask()
    one.later(100)
    assert one.ready == [run.worker]
    run.end()
    one.pool.maintain()
    assert one.ready == []
    one.later(1)
    assert one.ready == []


def test_a_busy_multiplexed_worker_gives_up_its_place_to_nobody() -> None:
    one = pool(is_multiplexed=True, max=1)
    one.demand("/a", times=1)
    run = one.ask("/a")
    one.demand("/b", times=1)
    assert one.folders == ["a"]
    run.end()
    one.demand("/b", times=1)
    assert one.folders == ["b"]


def test_tools_of_a_run_end_no_multiplexed_worker() -> None:
    one = pool(is_multiplexed=True)
    one.demand(times=1)
    one.pool.on_run_finished("/work", used_tools=True)
    assert len(one.ready) == 1


def test_one_multiplexed_worker_is_the_minimum_however_many_are_asked_for() -> None:
    one = pool(is_multiplexed=True)
    one.prestart(3)
    assert len(one.ready) == 1
