"""What the server adds to a run: the scripted CLI through it, against starting the same CLI directly.

    python -m bench overhead

Both sides do a whole run in every measurement: start the process, write the prompt, read its output to the end. The
rounds alternate, so that other load on the machine affects both; the results are medians of the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench.clocks import own_cpu_s, percentile, rounds
from bench.section import Group, Section
from tests.parts.clis import FakeCli
from tests.parts.server import Server

RUNS = {1: 60, 8: 80, 32: 160}
"""Callers at a time → runs of each side in a round."""
NOTE = """\
The scripted CLI (a Python process of about 12 ms), through the server and started directly by the same program with as many threads; whole
runs, ephemeral, each caller on one connection. The rounds alternate; medians of the rounds. *CPU* is that of the server's own
processes for one run: its worker, and the spawner with its supervisors. Target: at least 0.8 of the direct runs a second at 8 callers; added
p50 at most 5 ms and p99 at most 25 ms at one."""


class Callers:
    """The two ways to run the scripted CLI once."""

    def __init__(self, server: Server) -> None:
        self._argv = server.client.prompt("claude", "hello", dry_run=True).json["argv"]
        self._address = urlsplit(server.url)
        self._body = json.dumps({"backend": "claude", "prompt": "hello", "ephemeral": True})
        self._mine = threading.local()

    def direct(self) -> None:
        env = {"PATH": os.environ["PATH"]}
        # In a session of its own, as the server starts it: Linux shares the CPUs out by sessions (sched(7), autogroup).
        done = subprocess.run(self._argv, input=b"hello", capture_output=True, env=env, check=True, start_new_session=True)
        assert b"hello" in done.stdout

    def served(self) -> None:
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._mine.connection = HTTPConnection(self._address.hostname or "", self._address.port)
        connection.request("POST", "/api/v1/prompt", self._body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        assert b"hello" in body


def timed(pool: ThreadPoolExecutor, run: Callable[[], None], runs: int) -> tuple[list[float], float]:
    """Seconds of each run, and runs a second."""

    def one(_: int) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    start = time.perf_counter()
    taken = list(pool.map(one, range(runs)))
    return taken, runs / (time.perf_counter() - start)


def measure(*, quick: bool = False) -> Section:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        cli = FakeCli(Path(folder) / "reports")
        backend = cli.backend(warm={"max": 0})
        backend.pop("env")
        limits = {"max_concurrent_runs": max(RUNS), "rate_limit_enabled": False, "log_level": "warning"}
        server = Server(Path(folder), {"server": limits, "backends": {"claude": backend}})
        try:
            found = {callers: compare(server, callers, runs, 3 if quick else 9) for callers, runs in RUNS.items()}
        finally:
            server.stop()
    rows = [
        (callers, *(f"{value * 1e3:.1f}" for value in (p50, added50, added99, cpu)), *(f"{value:.0f}" for value in rates), f"{ratio:.2f}")
        for callers, (p50, added50, added99, cpu, *rates, ratio) in found.items()
    ]
    return Section(
        title="What the server adds to a run",
        note=NOTE,
        columns=(
            "callers", "direct p50 ms", "added p50 ms", "added p99 ms", "CPU ms a run", "runs/s direct", "runs/s served", "served / direct",
        ),
        rows=rows,
        groups=[
            Group(
                title=f"{callers} caller{'s' if callers > 1 else ''}: +{added50 * 1e3:.1f} ms a run",
                bars=[("direct", direct, f"{direct:.0f} runs/s"), ("served", through, f"{through:.0f} runs/s, ×{ratio:.2f}")],
            )
            for callers, (_, added50, _, _, direct, through, ratio) in found.items()
        ],
    )  # fmt: skip


def compare(server: Server, callers: int, runs: int, count: int) -> list[float]:
    """Medians of the rounds: direct p50, added p50, added p99, the server's CPU (all in seconds a run); runs a second; their ratio."""
    ways = Callers(server)
    found = []
    with ThreadPoolExecutor(callers) as pool:
        timed(pool, ways.served, 2 * callers)
        for _ in rounds(count, 40):
            direct, direct_rate = timed(pool, ways.direct, runs)
            before = own_cpu_s(server)
            through, through_rate = timed(pool, ways.served, runs)
            cpu = (own_cpu_s(server) - before) / runs
            p50, p99 = percentile(direct, 0.5), percentile(direct, 0.99)
            added = percentile(through, 0.5) - p50, percentile(through, 0.99) - p99
            found.append((p50, *added, cpu, direct_rate, through_rate, through_rate / direct_rate))
    return [statistics.median(column) for column in zip(*found, strict=True)]
