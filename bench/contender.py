"""What `bench.versus` measures of one server, whatever checkout it is of. Every function adds its figures to ``found``, by row."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.clocks import own_cpu_s, wait_until_quiet
from bench.idle import hold, pss_bytes
from tests.parts.clis import FakeCli
from tests.parts.server import Server

Measured = dict[str, list[float]]

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
TURNS = 80
"""Of sessions, in a round, by 8 callers with a session each."""
STREAMS = 200
"""That are silent."""
LIMITS = {"request_timeout_secs": 900, "idle_output_timeout_secs": 900}
SETTLE_S = 4.0
"""After the streams, before what they have left is measured."""


@contextmanager
def server_of(checkout: Path, warmth: Mapping[str, Any], *, keeps_sessions: bool = False) -> Iterator[Server]:
    """The scripted CLI and a shell behind a server of ``checkout``, with no limit that the measurement would meet."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        cli = FakeCli(Path(folder) / "reports")
        config = {
            "default_backend": "claude",
            "server": {"max_concurrent_runs": STREAMS + 16, "rate_limit_enabled": False, "log_level": "warning", **LIMITS},
            "backends": {
                "claude": cli.backend(**warmth) | {"env": cli.keeping if keeps_sessions else {}},
                "sh": {"command": ["sh"], "custom": {"output": "text"}},
            },
        }
        server = Server(Path(folder), config, {"PYTHONPATH": str(checkout)})
        try:
            yield server
        finally:
            server.stop()


class Caller:
    """Asks a server, each thread on a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._address = urlsplit(server.url)
        self._own = threading.local()

    def __call__(self, path: str, body: Mapping[str, Any]) -> bytes:
        """The answer's body."""
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = HTTPConnection(self._address.hostname or "", self._address.port, timeout=60)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text: bytes = answer.read()
        assert answer.status == 200, text
        return text


def measure_runs(server: Server, title: str, runs: int, callers: int, ask: Callable[[int], object], found: Measured) -> None:
    """``ask(n)`` makes the nth of ``runs`` requests."""

    def timed(number: int) -> float:
        start = time.perf_counter()
        ask(number)
        return time.perf_counter() - start

    wait_until_quiet(server)
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(timed, range(callers)))
        cpu, start = own_cpu_s(server), time.perf_counter()
        taken = list(pool.map(timed, range(runs)))
        found[f"{title}: ms a run"].append(statistics.median(taken) * 1e3)
        found[f"{title}: ms between answers"].append((time.perf_counter() - start) / runs * 1e3)
        found[f"{title}: CPU ms a run"].append((own_cpu_s(server) - cpu) / runs * 1e3)


def measure_calls(server: Server, warmth: str, found: Measured) -> None:
    for name, (path, body) in CALLS.items():
        for callers, runs in RUNS.items():
            caller = Caller(server)
            title = f"{warmth} {name}, {callers} caller{'s' if callers > 1 else ''}"
            measure_runs(server, title, runs, callers, lambda _, caller=caller, path=path, body=body: caller(path, body), found)  # type: ignore[misc]


def measure_turns(server: Server, warmth: str, found: Measured) -> None:
    """Turns of eight sessions, one caller each."""
    caller = Caller(server)
    sessions = [json.loads(caller("/api/v1/prompt", {"prompt": "hello"}))["session_id"] for _ in range(8)]
    locks = [threading.Lock() for _ in sessions]

    def turn(number: int) -> None:
        with locks[number % 8]:
            caller(f"/api/v1/sessions/{sessions[number % 8]}/resume", {"prompt": "and now"})

    measure_runs(server, f"{warmth} turns of 8 sessions", TURNS, 8, turn, found)


def measure_memory(checkout: Path, found: Measured) -> None:
    """Of all the server's own processes (PSS): idle, with silent streams, and a while after them."""

    def own_mb() -> float:
        return sum(map(pss_bytes, server.own())) / (1 << 20)

    with server_of(checkout, WARMTH["cold"]) as server:
        caller = Caller(server)
        caller(*CALLS["native"])
        wait_until_quiet(server)
        idle = own_mb()
        with ExitStack() as streams:
            hold(server, STREAMS, streams, prompt="echo hello; sleep 3600", backend="sh")
            silent = own_mb()
        time.sleep(SETTLE_S)
        found["memory, idle: MB"].append(idle)
        found["memory, each silent stream: KB"].append((silent - idle) / STREAMS * 1024)
        found[f"memory, {SETTLE_S:g} s after {STREAMS} of them: MB"].append(own_mb())


def measure_startup(checkout: Path, found: Measured) -> None:
    start = time.perf_counter()
    with server_of(checkout, WARMTH["cold"]):
        found["start to first answer: ms"].append((time.perf_counter() - start) * 1e3)
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "app.cli", "--version"], check=True, capture_output=True, env={"PYTHONPATH": str(checkout)})
    found["clinvk --version: ms"].append((time.perf_counter() - start) * 1e3)
