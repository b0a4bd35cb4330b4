"""Chains without processes: what a start raises, and what is checked although nobody is asked."""

from __future__ import annotations

from typing import Any

import pytest

from services.errors import BackendUnavailable, ClinvkError, QueueFull, RightMissing, RunFailed, StoreUnavailable
from services.fallback import Chain
from services.plans.window import PlanWindow
from services.plans.windows import PlanWindows
from services.requests import RunRequest

NAMES = ("first", "second")
LATER = 4_000_000_000


def chain_of(start: Any, **more: Any) -> Chain:
    requests = [RunRequest(prompt="x", backend=name) for name in NAMES]
    parts = {"prepare": lambda _: None, "is_available": lambda _: True, "give_up": None, "plans": PlanWindows()}
    return Chain(requests=requests, start=start, held_s=1.0, **{**parts, **more})


@pytest.mark.parametrize("error", [StoreUnavailable("the store is gone"), QueueFull("the queue is full")])
def test_the_server_s_own_trouble_is_no_backend_s(error: ClinvkError) -> None:
    asked = []

    def start(request: RunRequest) -> Any:
        asked.append(request.backend)
        raise error

    with pytest.raises(type(error)) as raised:
        chain_of(start).stream()
    assert (raised.value, asked) == (error, ["first"])


def test_a_backend_that_cannot_be_started_is_passed_over() -> None:
    asked = []

    def start(request: RunRequest) -> Any:
        asked.append((request.backend, request.passed_over, request.is_fallback))
        raise BackendUnavailable("no such program", backend=request.backend)

    with pytest.raises(BackendUnavailable):
        chain_of(start).stream()
    assert asked == [("first", (), False), ("second", (("first", "unavailable"),), False)]


@pytest.mark.parametrize("limited", [NAMES, NAMES[:1]])
def test_what_is_not_allowed_is_refused_whoever_could_answer_now(limited: tuple[str, ...]) -> None:
    """Else the same request would be refused on one day, and answered by another backend on the next."""
    plans = PlanWindows()
    for name in limited:
        plans.observe(name, [PlanWindow("week", 1.0, LATER, "rejected")])

    def prepare(request: RunRequest) -> None:
        if request.backend == "first":
            raise RightMissing("this API key may not", right="models")

    def start(request: RunRequest) -> Any:
        raise AssertionError(f"{request.backend} was asked")

    with pytest.raises(RightMissing):
        chain_of(start, prepare=prepare, plans=plans).stream()
    if limited == NAMES:
        with pytest.raises(RunFailed):
            chain_of(start, plans=plans).stream()
