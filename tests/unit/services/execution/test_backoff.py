"""When a start that failed is tried again, by a clock of the test's own."""

from __future__ import annotations

from services.execution.backoff import FIRST_S, MOST_S, Backoff


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def delays(count: int) -> list[float]:
    """Seconds until the next attempt, after each of so many failures in a row."""
    clock = Clock()
    backoff, found = Backoff(clock), []
    for _ in range(count):
        assert backoff.is_due
        backoff.record_failure()
        begun = clock.now
        while not backoff.is_due:
            clock.now += 1
        found.append(clock.now - begun)
    return found


def test_the_delay_doubles_up_to_its_limit() -> None:
    assert delays(8) == [5, 10, 20, 40, 80, 160, 300, 300]
    assert (FIRST_S, MOST_S) == (5, 300)


def test_a_success_begins_it_anew() -> None:
    clock = Clock()
    backoff = Backoff(clock)
    backoff.record_failure()
    backoff.record_failure()
    backoff.record_success()
    assert backoff.is_due
    backoff.record_failure()
    clock.now = FIRST_S - 0.1
    assert not backoff.is_due
    clock.now = FIRST_S
    assert backoff.is_due
