"""A process that serves many runs, without the process."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from gevent.event import Event

from services.decoding.decoder import Exit
from services.execution.multiplexed import MultiplexedWorker


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_process_that_ends_while_it_is_idle_is_a_problem_of_the_cli(is_idle: bool) -> None:
    worker = MultiplexedWorker.__new__(MultiplexedWorker)
    worker.channels = {} if is_idle else {MagicMock(): MagicMock()}
    worker._ready = Event()
    worker._end(Exit(1))
    assert (worker.problem is not None) == is_idle
