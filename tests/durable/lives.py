"""The server of a storm: it is killed, and started again on the same home and port."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.parts.client import Client
from tests.parts.clis import FakeCli
from tests.parts.processes import alive, eventually, read, rss_bytes
from tests.parts.server import Server, free_port

SETTLE_S = 15.0
"""Within this time the runs of a dead process have ended (a machine so busy that the server starts slowly included)."""


def config(cli: FakeCli, database_url: str | None) -> dict[str, Any]:
    """The default configuration, with scripted CLIs as its backends."""
    return {
        "default_backend": "sh",
        "backends": {"sh": {"command": ["sh"], "custom": {"output": "text"}}, "claude": cli.backend(env=cli.keeping)},
        **({"session": {"database_url": database_url}} if database_url else {}),
    }


class Lives:
    """One server after the other. ``client`` reaches whichever lives. Raises AssertionError where one does not start."""

    def __init__(self, folder: Path, *, workers: int = 1, database_url: str | None = None) -> None:
        self._folder = folder
        self._workers = workers
        self.home = folder / "clinvk"
        self.temp = folder / "tmp"
        self.temp.mkdir()
        self._config = config(FakeCli(folder / "reports"), database_url)
        self.kills: Counter[str] = Counter()
        self.down_s: list[float] = []
        """From each kill of all of the server's processes to the first answer afterwards."""
        self.burial_s: list[float] = []
        """From the first answer after a kill to the end of the last run that was lost."""
        self.most_rss_bytes = 0
        self.logs: list[str] = []
        self.server = self._start(free_port(), None)
        self.first_rss_bytes = max(map(rss_bytes, self.server.workers()))

    @property
    def client(self) -> Client:
        return self.server.client

    def _start(self, port: int, mark: str | None) -> Server:
        folder = self._folder / f"life-{len(self.logs)}"
        folder.mkdir()
        env = {"CLINVK_HOME": str(self.home), "TMPDIR": str(self.temp)}
        server = Server(folder, self._config, env, ("--port", str(port), "--workers", str(self._workers)), mark)
        assert eventually(lambda: len(server.workers()) == self._workers)
        return server

    def kill(self, way: str, dice: random.Random) -> None:
        """Kill some of the server's processes, have all of them serve again, and see that the runs which were lost have ended.

        ``way``: one of `KILLS`.
        """
        self.kills[way] += 1
        killed_at = time.time()
        killed = KILLS[way](self.server, dice)
        assert eventually(lambda: not any(map(alive, killed))), f"killed and alive: {killed}"
        if way != ONE_WORKER:
            self._follow_up()
        assert eventually(lambda: len(self.server.workers()) == self._workers and self.server.is_up()), "no server after a kill"
        self.down_s.append(time.time() - killed_at)
        up_at = time.time()
        if way == ONE_WORKER and self._workers > 1:
            return  # the runs of the others go on
        assert eventually(lambda: not self._runs_from_before(killed_at), SETTLE_S), f"runs of a dead process go on after {SETTLE_S} s"
        self.burial_s.append(time.time() - up_at)

    def _follow_up(self) -> None:
        """Another server in the place of one that is dead."""
        self.server.wait()
        self.logs.append(self.server.log())
        self.server = self._start(int(self.server.url.rpartition(":")[2]), self.server.mark)

    def _runs_from_before(self, when: float) -> list[str]:
        listed = self.client.get("/api/v1/runs?status=running&limit=200").json["runs"]
        before = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when - 1))
        return [run["id"] for run in listed if run["started_at"] and run["started_at"] < before]

    def watch_memory(self, is_over: threading.Event) -> None:
        while not is_over.wait(1.0):
            with suppress(OSError):  # killed at this moment
                self.most_rss_bytes = max([self.most_rss_bytes, *map(rss_bytes, self.server.workers())])


def _kill_all(server: Server, dice: random.Random) -> list[int]:
    """Stopped first, so that none of them sees the end of another: what the CLIs leave is found at the next start."""
    own = server.own()
    _send(own, signal.SIGSTOP, signal.SIGKILL)
    return own


def _kill_without_supervisors(server: Server, dice: random.Random) -> list[int]:
    """The parent and its workers; the supervisors see that, and end what they supervise."""
    own = [server.pid, *server.workers()]
    _send(own, signal.SIGKILL)
    return own


def _kill_one_worker(server: Server, dice: random.Random) -> list[int]:
    """Its parent replaces it."""
    pid = dice.choice(server.workers())
    _send([pid], signal.SIGKILL)
    return [pid]


def _send(own: list[int], *numbers: int) -> None:
    """Each signal to all of them, but to no other process that has got the number of one meanwhile."""
    births = {pid: _birth(pid) for pid in own}
    for number in numbers:
        for pid, birth in births.items():
            if _birth(pid) == birth != b"":
                with suppress(ProcessLookupError):
                    os.kill(pid, number)


def _birth(pid: int) -> bytes:
    """When the process was started, in clock ticks; nothing if it has gone."""
    return b"".join(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[19:20])


ONE_WORKER = "one worker"
KILLS: dict[str, Callable[[Server, random.Random], list[int]]] = {
    "all of its processes": _kill_all,
    "parent and workers": _kill_without_supervisors,
    ONE_WORKER: _kill_one_worker,
}
"""Each returns the processes that it has killed."""
