"""Callers take turns: simulated on the run store in memory (`python -m bench fairness` prints the table)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from tests.parts.queue_simulation import Simulation, Submission
from tests.parts.run_stores import RunDesk, open_desk

SLOTS, SERVICE_S = 4, 10.0


@pytest.fixture
def desk() -> Iterator[RunDesk]:
    one = open_desk(URL.create("sqlite"))
    yield one
    one.close()


def waits_of_the_late(desk: RunDesk, callers: int, *, is_fair: bool) -> float:
    """Of a caller that submits one run when another has 200 waiting, and ``callers`` have 5 each."""
    crowd = [Submission(0.0, f"caller {number}") for number in range(callers) for _ in range(5)]
    heavy = [Submission(0.0, "heavy")] * 200
    (wait,) = Simulation(desk, SLOTS, SERVICE_S, is_fair).run([*heavy, *crowd, Submission(25.0, "late")])["late"]
    return wait


@pytest.mark.parametrize("callers", [0, 7, 19])
def test_a_late_caller_is_served_within_one_round(desk: RunDesk, callers: int) -> None:
    round_s = (callers + 2) / SLOTS * SERVICE_S
    assert waits_of_the_late(desk, callers, is_fair=True) <= round_s + SERVICE_S


def test_first_in_first_out_would_let_it_wait_for_all(desk: RunDesk) -> None:
    assert waits_of_the_late(desk, 0, is_fair=False) >= (200 / SLOTS - 4) * SERVICE_S


def test_a_caller_alone_has_all_slots(desk: RunDesk) -> None:
    found = Simulation(desk, SLOTS, SERVICE_S).run([Submission(0.0, "anna")] * 8)
    assert found == {"anna": [0.0] * SLOTS + [SERVICE_S] * SLOTS}
