"""Shared by the measurements: CPU clocks of processes, percentiles, rounds within a time limit, a server without other work."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.parts.processes import descendants
from tests.parts.server import Server

LEAST_ROUNDS = 3
QUIET_S = 0.25
QUIET_CPU_S = 0.005


def rounds(count: int, within_s: float) -> Iterator[int]:
    """0, 1, … for ``count`` rounds; fewer, but at least `LEAST_ROUNDS`, where they take longer than ``within_s``."""
    deadline = time.monotonic() + within_s
    for number in range(count):
        if number >= LEAST_ROUNDS and time.monotonic() > deadline:
            return
        yield number


def percentile(values: Iterable[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time that these processes have used so far: of all their threads, to the nanosecond; what has gone counts nothing."""
    return sum(map(_ran_ns, pids)) / 1e9


def _ran_ns(pid: int) -> int:
    try:
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    except (OSError, IndexError):
        return 0


def own_cpu_s(server: Server) -> float:
    """CPU time of the server's own processes, its worker, spawner and supervisors; not that of the CLIs."""
    return cpu_s(server.own())


def wait_until_quiet(server: Server, within_s: float = 30.0) -> None:
    """Until nothing below the server does anything: every process that it starts beforehand is ready."""
    deadline = time.monotonic() + within_s
    before = -1.0
    while time.monotonic() < deadline:
        now = cpu_s(descendants(server.pid))
        if 0 <= now - before < QUIET_CPU_S:
            return
        before = now
        time.sleep(QUIET_S)
