"""What the server adds to a run: the scripted CLI through it, against starting the same CLI directly.

    python -m bench.overhead [--rounds 5] [--runs 40]

Both sides do the whole of a run in every measurement: start the process, hand it the prompt, read its output to the end.
The rounds alternate, so that a neighbour's load on the machine meets both; the medians of the rounds' ratios are printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.parts.clis import FakeCli
from tests.parts.server import Server

CALLERS = (1, 8, 32)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


def measure(run: Callable[[], None], callers: int, runs: int) -> tuple[list[float], float]:
    """Seconds of each run, and runs a second, with so many callers at a time."""

    def timed(_: int) -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(callers) as pool:
        taken = list(pool.map(timed, range(runs)))
    return taken, runs / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=40, help="runs of each side in a round, at least 5 a caller")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cli = FakeCli(Path(folder) / "reports")
        backend = cli.backend()
        backend.pop("env")
        server = Server(
            Path(folder), {"server": {"max_concurrent_runs": max(CALLERS), "log_level": "warning"}, "backends": {"claude": backend}}
        )
        try:
            plan = server.client.prompt("claude", "hello", dry_run=True).json
            report(server, plan["argv"], options.rounds, options.runs)
        finally:
            server.stop()


def report(server: Server, argv: list[str], rounds: int, runs: int) -> None:
    env = {"PATH": os.environ["PATH"]}

    def bare() -> None:
        done = subprocess.run(argv, input=b"hello", capture_output=True, env=env, check=True)
        assert b"hello" in done.stdout

    def served() -> None:
        answer = server.client.prompt("claude", "hello", ephemeral=True)
        assert answer.status == 200
        assert "hello" in answer.json["output"]

    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}; {rounds} rounds")
    print("callers | bare p50 ms | added p50 ms | added p99 ms | runs/s bare | runs/s served | ratio")
    for callers in CALLERS:
        count = max(runs, 5 * callers)
        rows = []
        for _ in range(rounds):
            direct, direct_rate = measure(bare, callers, count)
            through, through_rate = measure(served, callers, count)
            p50, p99 = percentile(direct, 0.5), percentile(direct, 0.99)
            rows.append(
                (
                    p50,
                    percentile(through, 0.5) - p50,
                    percentile(through, 0.99) - p99,
                    direct_rate,
                    through_rate,
                    through_rate / direct_rate,
                )
            )
        p50, add50, add99, direct_rate, through_rate, ratio = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"{callers:7} | {p50 * 1e3:11.1f} | {add50 * 1e3:12.1f} | {add99 * 1e3:12.1f} | {direct_rate:11.1f} | {through_rate:13.1f} | {ratio:5.2f}"
        )


if __name__ == "__main__":
    main()
