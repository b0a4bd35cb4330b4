"""A run is cancelled by the name that its client gave it, in this process or in another."""

from __future__ import annotations

from typing import Any

import pytest

from services.cancellation import Cancellation
from services.runs.live import LiveRun, LiveRuns
from services.runs.lookup import RunLookup


class Peers:
    """Another process, which answers at once."""

    def __init__(self) -> None:
        self.other: RunLookup | None = None
        self.told: list[str] = []

    def tell(self, name: str, **members: Any) -> None:
        self.told.append(name)
        if self.other:
            self.other.handlers()[name](**members)


class Process:
    def __init__(self) -> None:
        self.live, self.peers = LiveRuns(), Peers()
        self.lookup = RunLookup(None, None, self.live, self.peers, None)  # type: ignore[arg-type]

    def run(self, id: str, owner: str, alias: str) -> Cancellation:
        cancellation = Cancellation()
        self.live.enter(LiveRun(id=id, kind="prompt", owner=owner, request_id="r", cancellation=cancellation, alias=alias))
        return cancellation


@pytest.fixture
def processes() -> tuple[Process, Process]:
    one, other = Process(), Process()
    one.peers.other = other.lookup
    return one, other


def test_a_run_of_this_process_is_cancelled_without_asking_others(processes: tuple[Process, Process]) -> None:
    one, _ = processes
    run, equal, next_one = (one.run(id, "anna", alias) for id, alias in (("1", "a"), ("2", "a"), ("3", "b")))
    one.lookup.cancel_alias("a", "anna")
    assert (bool(run.failure), bool(equal.failure), next_one.failure, one.peers.told) == (True, True, None, [])


def test_a_run_of_another_process_is_cancelled_there(processes: tuple[Process, Process]) -> None:
    one, other = processes
    run = other.run("1", "anna", "a")
    one.lookup.cancel_alias("a", "anna")
    assert run.failure is not None
    assert run.failure.kind == "cancelled"


@pytest.mark.parametrize(("alias", "owner"), [("a", "bert"), ("b", "anna"), ("", "anna")])
def test_nothing_else_is_cancelled(processes: tuple[Process, Process], alias: str, owner: str) -> None:
    one, other = processes
    runs = [process.run(f"{number}", "anna", "a") for number, process in enumerate(processes)]
    one.lookup.cancel_alias(alias, owner)
    assert [run.failure for run in runs] == [None, None]
    assert len(other.live) == 1
