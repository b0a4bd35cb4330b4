"""Another checkout against this one: `python -m bench.versus PATH [--rounds 9]`, for example a `git worktree` of an older commit.

Every round measures three servers in turn: one of the other checkout, and two of this one. The
difference between the last two is noise; only a larger difference is due to the code. All run with this Python environment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.clocks import own_cpu_s, wait_until_quiet
from tests.parts.clis import FakeCli
from tests.parts.server import ROOT, Server

RUNS = {1: 40, 8: 80}
"""Callers at a time → runs of each measurement in a round."""
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "native": ("/api/v1/prompt", {"prompt": "hello", "ephemeral": True}),
    "chat": ("/openai/v1/chat/completions", {"model": "claude", "messages": [{"role": "user", "content": "hello"}]}),
    "streamed": ("/openai/v1/chat/completions", {"model": "claude", "messages": [{"role": "user", "content": "hello"}], "stream": True}),
    "chat, a shell": ("/openai/v1/chat/completions", {"model": "sh", "messages": [{"role": "user", "content": "echo hello"}]}),
}
"""The first three ask the scripted CLI, which speaks Claude Code's protocol and is a Python process of about 12 ms; the last one a shell,
which is told its prompt and says its answer at once."""
WARMTH: dict[str, dict[str, Any]] = {"cold": {"warm": {"max": 0}}, "warm": {"warm": {"max": 8}}}

Measured = dict[str, list[float]]


@contextmanager
def server_of(checkout: Path, warmth: Mapping[str, Any]) -> Iterator[Server]:
    """The scripted CLI and a shell behind a server of ``checkout``, with no limit that the measurement would meet."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        backend = FakeCli(Path(folder) / "reports").backend(**warmth)
        backend.pop("env")
        config = {
            "default_backend": "claude",
            "server": {"max_concurrent_runs": 16, "rate_limit_enabled": False, "log_level": "warning"},
            "backends": {"claude": backend, "sh": {"command": ["sh"], "custom": {"output": "text"}}},
        }
        server = Server(Path(folder), config, {"PYTHONPATH": str(checkout)})
        try:
            yield server
        finally:
            server.stop()


def caller_of(server: Server, path: str, body: Mapping[str, Any]) -> Callable[[int], float]:
    """A call, each thread on a connection of its own; it returns the seconds until the answer's end."""
    own = threading.local()
    address, data = urlsplit(server.url), json.dumps(body)

    def call(_: int) -> float:
        connection = getattr(own, "connection", None)
        if connection is None:
            connection = own.connection = HTTPConnection(address.hostname or "", address.port, timeout=60)
        start = time.perf_counter()
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return time.perf_counter() - start

    return call


def measure_calls(server: Server, warmth: str, found: Measured) -> None:
    for name, (path, body) in CALLS.items():
        for callers, runs in RUNS.items():
            wait_until_quiet(server)
            call, title = caller_of(server, path, body), f"{warmth} {name}, {callers} caller{'s' if callers > 1 else ''}"
            with ThreadPoolExecutor(callers) as pool:
                list(pool.map(call, range(callers)))
                cpu, start = own_cpu_s(server), time.perf_counter()
                taken = list(pool.map(call, range(runs)))
                found[f"{title}: ms a run"].append(statistics.median(taken) * 1e3)
                found[f"{title}: ms between answers"].append((time.perf_counter() - start) / runs * 1e3)
                found[f"{title}: CPU ms a run"].append((own_cpu_s(server) - cpu) / runs * 1e3)


def measure_startup(checkout: Path, found: Measured) -> None:
    start = time.perf_counter()
    with server_of(checkout, WARMTH["cold"]):
        found["start to first answer: ms"].append((time.perf_counter() - start) * 1e3)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "app.cli", "--version"], check=True, capture_output=True, env={"PYTHONPATH": str(checkout)})
    found["clinvk --version: ms"].append((time.perf_counter() - start) * 1e3)


def quartiles(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.versus", description=__doc__)
    parser.add_argument("other", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    contenders = {"other": options.other.resolve(), "this": ROOT, "this again": ROOT}
    found: dict[str, Measured] = {name: defaultdict(list) for name in contenders}
    for warmth, settings in WARMTH.items():
        with ExitStack() as stack:
            servers = {name: stack.enter_context(server_of(path, settings)) for name, path in contenders.items()}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    measure_calls(server, warmth, found[name])
    for _ in range(options.rounds):
        for name, path in contenders.items():
            measure_startup(path, found[name])
    print("| median (quartiles) | other | this | this again | this / other |\n|---|---|---|---|---|")
    for title, before in found["other"].items():
        this = found["this"][title]
        ratio = statistics.median(this) / statistics.median(before)
        print(f"| {title} | {quartiles(before)} | {quartiles(this)} | {quartiles(found['this again'][title])} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
