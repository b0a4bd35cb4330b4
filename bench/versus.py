"""Another checkout against this one: `python -m bench.versus PATH [--rounds 9] [--busy]`, for example a `git worktree` of an older commit.

Every round measures three servers in turn: one of the other checkout, and two of this one. The
difference between the last two is noise; only a larger difference is due to the code. All run with this Python environment.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contender import WARMTH, Measured, measure_calls, measure_memory, measure_startup, measure_turns, server_of
from tests.parts.server import ROOT, Server

MEMORY_ROUNDS = 3
MEASUREMENTS: dict[str, Callable[[Server, str, Measured], None]] = {"calls": measure_calls, "turns": measure_turns}
"""Of a server that is there for all rounds; turns need a CLI that keeps its sessions."""


@contextmanager
def busy_cores() -> Iterator[None]:
    """A process for each core that does nothing else, at normal priority."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.versus", description=__doc__)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--busy", action="store_true", help="keep every core busy meanwhile, and measure calls and turns alone")
    options = parser.parse_args()
    contenders = {"other": options.other.resolve(), "this": ROOT, "this again": ROOT}
    found: dict[str, Measured] = {name: defaultdict(list) for name in contenders}
    try:
        measure_all(contenders, found, options.rounds, is_busy=options.busy)
    finally:  # also what there is when it is interrupted
        print_table(found)


def measure_all(contenders: Mapping[str, Path], found: Mapping[str, Measured], rounds: int, *, is_busy: bool) -> None:
    with busy_cores() if is_busy else ExitStack():
        for what, measure in MEASUREMENTS.items():
            for warmth, settings in WARMTH.items():
                with ExitStack() as stack:
                    servers = {
                        name: stack.enter_context(server_of(path, settings, keeps_sessions=what == "turns"))
                        for name, path in contenders.items()
                    }
                    for _ in range(rounds):
                        for name, server in servers.items():
                            measure(server, warmth, found[name])
    if not is_busy:
        for number in range(rounds):
            for name, path in contenders.items():
                measure_startup(path, found[name])
                if number < MEMORY_ROUNDS:
                    measure_memory(path, found[name])


def print_table(found: Mapping[str, Measured]) -> None:
    print("| median (quartiles) | other | this | this again | this / other |\n|---|---|---|---|---|")
    for title, before in found["other"].items():
        if len(found["this again"].get(title, ())) < 2:
            continue
        this = found["this"][title]
        ratio = statistics.median(this) / statistics.median(before)
        print(f"| {title} | {quartiles(before)} | {quartiles(this)} | {quartiles(found['this again'][title])} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
