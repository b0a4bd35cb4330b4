"""When processes that wait are ended, and when none are started: memory, age, and what the server is told while it runs."""

from __future__ import annotations

import os
import signal

from tests.conftest import ServerFactory
from tests.e2e.test_warm_fake_cli import ask, ready, start, waiting
from tests.parts.clis import FakeCli
from tests.parts.processes import alive, eventually


def test_where_memory_is_short_nothing_is_started_beforehand(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "min": 1, "min_free_mb": 1 << 30})
    for _ in range(4):
        assert ask(one)["output"] == "You said: hello"
        assert not waiting(one)


def test_a_process_that_grew_too_large_while_it_waited_is_ended(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 2, "min": 1, "max_rss_mb": 60})
    old = ready(one)
    os.kill(old[0], signal.SIGUSR1)
    assert eventually(lambda: not alive(old[0]), 20)
    assert ready(one, 2) != old
    assert alive(old[1])
