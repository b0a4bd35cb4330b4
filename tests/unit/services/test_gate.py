from __future__ import annotations

import gevent
import pytest

from services.admission import AdmissionControl, Slot
from services.cancellation import CLIENT_GONE, Cancellation
from services.errors import QueueFull, RunFailed


def admission(limit: int = 1, queue_limit: int = 10, queue_timeout_s: float = 10, **backend_limits: int) -> AdmissionControl:
    return AdmissionControl(limit, queue_limit=queue_limit, queue_timeout_s=queue_timeout_s, backend_limits=backend_limits)


def enter(admission: AdmissionControl, caller: str = "a", backend: str = "demo", cancellation: Cancellation | None = None) -> Slot:
    return admission.acquire(backend, caller, cancellation or Cancellation())


def test_a_place_that_is_left_twice_is_free_once() -> None:
    door = admission()
    place = enter(door)
    place.release()
    place.release()
    assert (door.running, door.queued) == (0, 0)


def test_callers_are_served_in_turn() -> None:
    door = admission()
    first = enter(door)
    order: list[str] = []

    def run(caller: str) -> None:
        place = enter(door, caller)
        order.append(caller)
        gevent.sleep(0)
        place.release()

    greenlets = [gevent.spawn(run, caller) for caller in "aaabbc"]
    gevent.sleep(0)
    assert door.queued == 6
    first.release()
    gevent.joinall(greenlets, raise_error=True)
    assert "".join(order) == "abcaba"
    assert (door.running, door.queued) == (0, 0)


def test_a_full_queue_refuses_and_says_when_to_come_again() -> None:
    door = admission(queue_limit=0)
    enter(door)
    with pytest.raises(QueueFull, match="max_queued_runs") as refused:
        enter(door)
    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1


def test_a_full_queue_makes_room_for_a_caller_with_fewer_in_it() -> None:
    door = admission(queue_limit=3)
    first = enter(door)
    greedy = [gevent.spawn(enter, door, "greedy") for _ in range(3)]
    gevent.sleep(0)
    other = gevent.spawn(enter, door, "other")
    greedy[2].join(5)
    assert isinstance(greedy[2].exception, QueueFull)
    assert door.queued == 3
    with pytest.raises(QueueFull):
        enter(door, "greedy")
    other_again = gevent.spawn(enter, door, "other")  # one each is fair: 2 and 1 is no reason to displace anybody
    other_again.join(5)
    assert isinstance(other_again.exception, QueueFull)
    first.release()
    assert gevent.wait([greedy[0]], timeout=5)
    greedy[0].value.release()
    assert other.get(timeout=5)
    greedy[1].kill()
    assert door.queued == 0


@pytest.mark.parametrize(("run_s", "queued", "least", "most"), [(0.001, 0, 1, 1), (30, 0, 10, 30), (3000, 5, 600, 600)])
def test_when_to_come_again_follows_what_runs_take_within_reason(run_s: float, queued: int, least: float, most: float) -> None:
    door = admission(queue_limit=queued)
    door._mean_run_s = run_s
    enter(door)
    waiting = [gevent.spawn(enter, door) for _ in range(queued)]
    gevent.sleep(0)
    with pytest.raises(QueueFull) as refused:
        enter(door)
    assert refused.value.retry_after_s is not None
    assert least <= refused.value.retry_after_s <= most
    gevent.killall(waiting)


def test_a_backend_with_fewer_places_has_the_longer_wait() -> None:
    door = admission(limit=10, queue_limit=0, claude=1)
    enter(door, backend="claude")
    with pytest.raises(QueueFull) as refused:
        enter(door, backend="claude")
    assert refused.value.retry_after_s == 10


def test_who_waits_too_long_is_refused_and_forgotten() -> None:
    door = admission(queue_timeout_s=0.01)
    enter(door)
    with pytest.raises(QueueFull, match="queue_timeout_secs"):
        enter(door)
    assert door.queued == 0


def test_who_leaves_the_queue_frees_the_place_in_it() -> None:
    door = admission()
    enter(door)
    cancellation = Cancellation()
    gevent.spawn(cancellation.cancel, CLIENT_GONE)
    with pytest.raises(RunFailed):
        enter(door, cancellation=cancellation)
    assert (door.running, door.queued) == (1, 0)


def test_a_full_queue_of_one_backend_does_not_refuse_another() -> None:
    door = admission(limit=3, queue_limit=1, claude=1)
    first = enter(door, backend="claude")
    waiting = gevent.spawn(enter, door, "a", "claude")
    gevent.sleep(0)
    assert enter(door, caller="a", backend="demo")
    with pytest.raises(QueueFull):
        enter(door, caller="a", backend="claude")
    first.release()
    assert waiting.get(timeout=5)
    assert (door.running, door.queued) == (2, 0)


def test_a_backend_at_its_own_limit_does_not_hold_up_another() -> None:
    door = admission(limit=3, claude=1)
    enter(door, backend="claude")
    waiting = gevent.spawn(enter, door, "a", "claude")
    gevent.sleep(0)
    assert enter(door, caller="a", backend="demo")
    assert not waiting.ready()
    waiting.kill()
    assert door.queued == 0
