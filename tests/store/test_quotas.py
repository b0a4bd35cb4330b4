"""The limits of keys over several processes, on both databases."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import gevent
import pytest
from sqlalchemy.engine import URL

from services.access.rights import Budget, Rights
from services.cancellation import CLIENT_GONE, Cancellation
from services.clis.codex.spec import SPEC as CODEX
from services.clis.spec import Invocation
from services.errors import BudgetExceeded, KeyRevoked, RateLimited, RightMissing, RunFailed
from services.events import Failed, Finished
from services.ledger.prices import Price, Prices
from services.requests import RunRequest
from services.runs.record import Run
from services.usage import Usage
from tests.parts.quotas import QuotaDesk, open_quota_desk, report_of, start_process, until
from tests.parts.run_stores import RunDesk, new_run

TWO = {"anna": Rights(max_concurrent_runs=2), "ben": Rights(max_concurrent_runs=1)}


@pytest.fixture
def open_quotas(url: URL) -> Iterator[Callable[..., QuotaDesk]]:
    """``open_quotas(keys)`` is another process on the same database."""
    opened: list[QuotaDesk] = []

    def start(keys: dict[str, Rights] = TWO, **options: Any) -> QuotaDesk:
        opened.append(open_quota_desk(url, keys, **options))
        return opened[-1]

    yield start
    for desk in opened:
        desk.close()


def budget(unit: Any, amount: float, per: Any = "day") -> dict[str, Rights]:
    return {"anna": Rights(budgets=(Budget(unit=unit, amount=amount, per=per),))}


def test_a_key_has_as_many_runs_at_once_as_it_may_over_all_processes(open_quotas: Callable[..., QuotaDesk]) -> None:
    one, other = open_quotas(), open_quotas()
    first, second = one.begin(), other.begin()
    third = gevent.spawn(other.begin)
    assert until(lambda: one.waiting() == 1)
    assert not third.ready()
    one.begin("ben")
    one.end(first)
    begun = third.get(timeout=10)
    assert one.waiting() == 0
    other.end(second)
    other.end(begun)
    assert one.holders() == 1


def test_a_run_that_waits_for_its_key_holds_no_slot_of_the_server(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas(limit=2)
    first = desk.begin("ben")
    waiting = gevent.spawn(desk.begin, "ben")
    assert until(lambda: desk.waiting() == 1)
    desk.end(desk.begin("anna"))
    desk.end(first)
    desk.end(waiting.get(timeout=10))


def test_the_run_that_has_waited_longer_is_next_wherever_it_waits(open_quotas: Callable[..., QuotaDesk]) -> None:
    now = [0]

    def clock() -> int:
        now[0] += 2_000_000
        return now[0]

    one, other = open_quotas(clock=clock), open_quotas(clock=clock)
    going = one.begin("ben")
    served: list[str] = []

    def run(desk: QuotaDesk, name: str) -> None:
        begun = desk.begin("ben")
        served.append(name)
        desk.end(begun)

    waiting = []
    for count, (desk, name) in enumerate([(other, "a"), (one, "b"), (other, "c"), (one, "d")], 1):
        waiting.append(gevent.spawn(run, desk, name))
        assert until(lambda count=count: one.waiting() == count)
    one.end(going)
    gevent.joinall(waiting, timeout=20, raise_error=True)
    assert served == ["a", "b", "c", "d"]


def test_a_fallback_goes_before_those_that_wait_and_is_no_run_of_its_own(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas({"anna": Rights(max_concurrent_runs=1, max_waiting_runs=1, budgets=(Budget(unit="runs", amount=2, per="day"),))})
    going = desk.begin()
    waiting = gevent.spawn(desk.begin)
    assert until(lambda: desk.waiting() == 1)
    fallback = gevent.spawn(desk.begin, is_fallback=True)
    assert until(lambda: desk.waiting() == 2)
    desk.end(going)
    begun = fallback.get(timeout=10)
    assert not waiting.ready()
    desk.end(begun)
    desk.end(waiting.get(timeout=10))
    with pytest.raises(BudgetExceeded):
        desk.begin()
    assert desk.total()["runs"] == 3


@pytest.mark.parametrize("most", [0, 2])
def test_past_the_runs_that_may_wait_a_run_is_refused(open_quotas: Callable[..., QuotaDesk], most: int) -> None:
    desk, other = (open_quotas({"anna": Rights(max_concurrent_runs=1, max_waiting_runs=most)}) for _ in range(2))
    going = desk.begin()
    waiting = [gevent.spawn(other.begin) for _ in range(most)]
    assert until(lambda: desk.waiting() == most)
    with pytest.raises(RateLimited, match="max_waiting_runs"):
        desk.begin()
    desk.end(going)
    for one in waiting:
        other.end(one.get(timeout=10))


def test_a_run_that_waited_for_too_long_is_refused_and_leaves_the_line(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas(queue_timeout_s=0.05)
    desk.begin("ben")
    with pytest.raises(RateLimited, match=r"server\.queue_timeout_secs"):
        desk.begin("ben")
    assert until(lambda: desk.waiting() == 0)


def test_a_cancelled_run_leaves_the_line(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas()
    desk.begin("ben")
    cancellation = Cancellation()
    waiting = gevent.spawn(desk.begin, "ben", cancellation=cancellation)
    assert until(lambda: desk.waiting() == 1)
    cancellation.cancel(CLIENT_GONE)
    with pytest.raises(RunFailed):
        waiting.get(timeout=10)
    assert until(lambda: desk.waiting() == 0)


def test_the_slots_of_a_dead_process_do_not_count(open_quotas: Callable[..., QuotaDesk]) -> None:
    keys = {"anna": Rights(max_concurrent_runs=1, max_waiting_runs=0, budgets=(Budget(unit="runs", amount=1, per="day"),))}
    dead, alive = open_quotas(keys), open_quotas(keys)
    dead.begin()
    with pytest.raises(BudgetExceeded):
        alive.begin()
    dead.seem_dead()
    alive.end(alive.begin())
    assert alive.holders() == 0


def test_a_run_that_waits_gets_the_slot_of_a_process_that_dies(open_quotas: Callable[..., QuotaDesk]) -> None:
    dying, alive = open_quotas(), open_quotas()
    dying.begin("ben")
    waiting = gevent.spawn(alive.begin, "ben")
    assert until(lambda: alive.waiting() == 1)
    dying.seem_dead()
    alive.end(waiting.get(timeout=10))


def test_maintenance_removes_the_slots_of_dead_processes_and_no_others(open_quotas: Callable[..., QuotaDesk]) -> None:
    dead, alive = open_quotas(), open_quotas()
    dead.begin("ben")
    alive.begin("anna")
    dead.seem_dead()
    alive.quotas.tidy()
    assert alive.holders() == 1


def test_a_process_that_is_killed_gives_its_slots_back(open_quotas: Callable[..., QuotaDesk], url: URL) -> None:
    desk = open_quotas({"anna": Rights(max_concurrent_runs=2, max_waiting_runs=0)})
    process = start_process(url, 2, hold_s=600, max_concurrent_runs=2)
    assert until(lambda: desk.holders() == 2, within_s=60)
    with pytest.raises(RateLimited):
        desk.begin()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    desk.end(desk.begin())
    assert process.stdout
    process.stdout.close()


def test_two_processes_with_thirty_runs_each_never_pass_the_limit(open_quotas: Callable[..., QuotaDesk], url: URL) -> None:
    processes = [start_process(url, 30, hold_s=0.01, max_concurrent_runs=2) for _ in range(2)]
    reports = [report_of(process) for process in processes]
    changes = sorted(change for report in reports for since, until in report["times"] for change in [(since, 1), (until, -1)])
    assert len(changes) == 2 * 60
    assert max(accumulate(step for _, step in changes)) <= 2
    assert open_quotas().total()["runs"] == 60


def test_a_budget_of_runs_is_exact_under_200_requests_at_once(open_quotas: Callable[..., QuotaDesk], url: URL) -> None:
    processes = [start_process(url, 100, hold_s=0.05, budgets=[{"unit": "runs", "amount": 23, "per": "month"}]) for _ in range(2)]
    reports = [report_of(process) for process in processes]
    assert sum(len(report["times"]) for report in reports) == 23
    assert sum(report["refused"].get("budget_exceeded", 0) for report in reports) == 177
    assert open_quotas().total()["runs"] == 23


def test_a_budget_of_dollars_is_passed_by_the_runs_that_were_going_at_most(open_quotas: Callable[..., QuotaDesk], url: URL) -> None:
    limits = {"budgets": [{"unit": "usd", "amount": 0.095, "per": "month"}], "max_concurrent_runs": 4, "max_waiting_runs": 200}
    processes = [start_process(url, 100, hold_s=0.02, cost_usd=0.01, **limits) for _ in range(2)]
    reports = [report_of(process) for process in processes]
    runs = sum(len(report["times"]) for report in reports)
    assert 10 <= runs <= 10 + 3  # the last cents are there for the tenth, and 3 others may have begun before it ended
    assert open_quotas().total()["cost_usd"] == pytest.approx(runs * 0.01)


def test_tokens_are_input_and_output_without_what_was_cached(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas(budget("tokens", 140))
    desk.run(end=Finished(usage=Usage(100, 10, 40)))
    desk.run(end=Finished(usage=Usage(100, 10, 40)))
    with pytest.raises(BudgetExceeded) as refused:
        desk.begin()
    assert refused.value.details["used"] == 140


def test_failed_runs_count_and_refused_ones_do_not(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas(budget("runs", 2))
    begun = desk.begin()
    begun.slot.release()
    desk.quotas.give_back(begun.telemetry.invocation.request, begun.key_slot)
    desk.run(end=Failed("backend", "no"))
    desk.run(end=Failed("backend", "no"))
    with pytest.raises(BudgetExceeded):
        desk.begin()
    assert (desk.total()["runs"], desk.total()["failures"]) == (2, 2)


def test_a_refusal_says_when_the_window_ends(open_quotas: Callable[..., QuotaDesk]) -> None:
    now = datetime(2026, 2, 27, 23, 30, tzinfo=UTC)
    both = (Budget(unit="runs", amount=1, per="hour"), Budget(unit="usd", amount=0.005, per="month"))
    desk = open_quotas({"anna": Rights(budgets=both)}, clock=lambda: round(now.timestamp() * 1e6))
    desk.run()
    with pytest.raises(BudgetExceeded, match="US dollars per month") as refused:
        desk.begin()
    assert refused.value.retry_after_s == 24 * 3600 + 1800
    wanted = {"unit": "usd", "amount": 0.005, "used": 0.01, "resets_at": "2026-03-01T00:00:00Z", "budget": "usd per month"}
    assert refused.value.details == wanted


@pytest.mark.parametrize(
    ("per", "later"), [("hour", (2026, 2, 28, 0)), ("day", (2026, 2, 28, 0)), ("week", (2026, 3, 2, 0)), ("month", (2026, 3, 1, 0))]
)
def test_a_budget_is_there_again_in_the_next_window(open_quotas: Callable[..., QuotaDesk], per: Any, later: tuple[int, ...]) -> None:
    now = [datetime(2026, 2, 27, 23, 59, 59, tzinfo=UTC)]
    desk = open_quotas(budget("runs", 1, per), clock=lambda: round(now[0].timestamp() * 1e6))
    desk.run()
    with pytest.raises(BudgetExceeded):
        desk.begin()
    now[0] = datetime(*later, tzinfo=UTC)  # type: ignore[arg-type, misc]
    desk.run()


def test_a_key_without_limits_writes_nothing_before_its_run(open_quotas: Callable[..., QuotaDesk]) -> None:
    desk = open_quotas({"anna": Rights()})
    begun = desk.begin()
    assert (begun.key_slot, desk.holders()) == (None, 0)
    desk.end(begun)
    assert desk.total(owner="anna")["runs"] == 1


def test_a_key_that_is_no_longer_in_force_gets_no_slot(open_quotas: Callable[..., QuotaDesk]) -> None:
    with pytest.raises(KeyRevoked):
        open_quotas().begin("nobody")


@pytest.mark.parametrize(
    ("model", "prices", "is_refused"),
    [("gpt-5", {}, True), ("gpt-5", {"gpt-5*": 1}, False), (None, {"gpt-5*": 1}, True), (None, {"codex/*": 1}, False)],
)
def test_a_budget_of_dollars_needs_a_price_where_the_cli_reports_no_cost(
    open_quotas: Callable[..., QuotaDesk], model: str | None, prices: dict[str, float], is_refused: bool
) -> None:
    table = Prices({pattern: Price(input=price, output=price, cached=price) for pattern, price in prices.items()})
    desk = open_quotas(budget("usd", 1), prices=table)
    request = RunRequest(prompt="-", backend="codex", owner="anna")
    invocation = Invocation(spec=CODEX, request=request, argv=(), env={}, cwd="/", stdin=b"", model=model)
    if is_refused:
        with pytest.raises(RightMissing) as refused:
            desk.quotas.check(invocation)
        assert refused.value.details["right"] == "budget"
    else:
        desk.quotas.check(invocation)


def test_queued_runs_of_a_key_at_its_limit_are_passed_over(
    open_quotas: Callable[..., QuotaDesk], open_run_desk: Callable[..., RunDesk]
) -> None:
    quotas, runs = open_quotas(), open_run_desk()
    going = quotas.begin("ben")
    runs.add(owner="ben", backend="claude", priority=0)
    after = runs.add(owner="anna", backend="claude")

    def claim() -> Run | None:
        return runs.runs.claim(["claude"], quotas.quotas.at_limit)

    assert (first := claim())
    assert first.id == after.id
    assert claim() is None
    quotas.end(going)
    assert (second := claim())
    assert second.owner == "ben"
    runs.add(owner="ben", backend="claude")
    assert claim() is None, "the claimed run is about to take the key's slot"


@pytest.mark.parametrize(
    ("rights", "accepted"), [({}, 9), ({"max_waiting_runs": 3}, 3), ({"max_concurrent_runs": 2, "max_waiting_runs": 0}, 2)]
)
def test_a_key_s_own_limit_is_its_share_of_the_queue(
    open_quotas: Callable[..., QuotaDesk], open_run_desk: Callable[..., RunDesk], rights: dict[str, int], accepted: int
) -> None:
    quotas, runs = open_quotas({"anna": Rights(**rights)}), open_run_desk()  # type: ignore[arg-type]
    share = quotas.quotas.share_of("anna", 9)
    for _ in range(accepted):
        runs.runs.add(new_run(owner="anna"), max_waiting=100, max_waiting_per_owner=share)
    with pytest.raises(RateLimited):
        runs.runs.add(new_run(owner="anna"), max_waiting=100, max_waiting_per_owner=share)
