"""What 1,000 idle streams cost one worker, and how fast it answers beside them.

python -m bench idle
"""

from __future__ import annotations

import json
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from bench.clocks import cpu_s, wait_until_quiet
from bench.events import compile_c, lines
from bench.section import Section
from tests.parts.clis import FakeCli
from tests.parts.processes import rss_bytes
from tests.parts.server import Server

STREAMS = 1000
AT_A_TIME = 50
"""So many are opened before the first of them is waited for."""
REQUESTS = 200
RUNS = 30
WATCHED_S = 5.0
NOTE = f"""\
{STREAMS:,} streams of one worker whose CLIs have written one line and are silent, each on its own connection. *Memory* is the growth of the
worker's resident set per stream, after smaller rounds for warm-up; each run also has its supervisor, whose proportional share of
memory (PSS) is in the table too. A new request is `GET /health`, and a whole run of the scripted CLI, before the streams, beside
them, and after them. Target: at most 60 KB each, and a new request as fast as without them."""


def open_stream(port: int, body: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    head = "POST /api/v1/prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def wait_for_first_event(connection: socket.socket) -> None:
    received = b""
    while b"event: " not in received:
        chunk = connection.recv(4096)
        assert chunk, received
        received += chunk


def hold(server: Server, count: int, stack: ExitStack, *, backend: str = "claude", prompt: str = "x") -> float:
    """Open ``count`` streams that stay open; seconds until all have begun."""
    body = json.dumps({"backend": backend, "prompt": prompt, "output_format": "stream-json", "ephemeral": True}).encode()
    port = int(server.url.rpartition(":")[2])
    start = time.perf_counter()
    for _ in range(0, count, AT_A_TIME):
        opened = [stack.enter_context(open_stream(port, body)) for _ in range(min(AT_A_TIME, count))]
        for connection in opened:
            wait_for_first_event(connection)
    return time.perf_counter() - start


def latency_ms(ask: Callable[[], object], count: int) -> float:
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e3


def pss_bytes(pid: int) -> int:
    """Its share of the memory that it has in common with others, and its own."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def measure(*, quick: bool = False) -> Section:
    streams = STREAMS // 5 if quick else STREAMS
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        told = folder / "lines"
        told.write_bytes(lines(1))
        limits = {"max_concurrent_runs": streams + 8, "max_queued_runs": 64, "rate_limit_enabled": False, "log_level": "warning"}
        backends = {
            "claude": {"command": [str(compile_c("pour", folder)), str(told), "-1"], "warm": {"max": 0}},
            "scripted": scripted(folder),
        }
        limits |= {"request_timeout_secs": 900, "idle_output_timeout_secs": 900}
        server = Server(folder, {"server": limits, "backends": backends})
        try:
            return report(server, streams)
        finally:
            server.stop()


def scripted(folder: Path) -> dict[str, object]:
    """A backend beside the silent one, for whole runs."""
    backend = FakeCli(folder / "reports").backend("--dialect=text", custom={})
    backend.pop("env")
    return backend


def report(server: Server, streams: int) -> Section:
    worker = server.workers()[0]

    def ask() -> tuple[float, float]:
        health = latency_ms(lambda: server.client.get("/health"), REQUESTS)
        return health, latency_ms(lambda: server.client.prompt("scripted", "hello", ephemeral=True), RUNS)

    with ExitStack() as warming:
        hold(server, streams // 5, warming)
    wait_until_quiet(server)
    before, memory = ask(), rss_bytes(worker)
    with ExitStack() as stack:
        opened_s = hold(server, streams, stack)
        wait_until_quiet(server)
        grown_kb = (rss_bytes(worker) - memory) / streams / 1024
        own = [pid for pid in server.own() if pid not in (worker, server.pid)]
        supervisors_kb = sum(map(pss_bytes, own)) / streams / 1024
        used = cpu_s([worker])
        time.sleep(WATCHED_S)
        idle = (cpu_s([worker]) - used) / WATCHED_S
        beside = ask()
    wait_until_quiet(server)
    after = ask()
    rows: list[tuple[str, str]] = [
        ("worker's memory a stream", f"{grown_kb:.1f} KB"),
        ("its supervisor's share of memory", f"{supervisors_kb:.0f} KB"),
        (f"opening {streams:,}", f"{opened_s:.1f} s"),
        ("worker's CPU while all are silent", f"{idle * 100:.2f} %"),
    ]
    for what, values in zip(
        ("`GET /health`, median", "a run of the scripted CLI, median"), zip(before, beside, after, strict=True), strict=True
    ):
        told = ", ".join(f"{value:.1f} ms {when}" for value, when in zip(values, ("before", "beside them", "after"), strict=True))
        rows.append((what, f"{told} (×{values[1] / values[0]:.2f})"))
    return Section(title=f"{streams:,} idle streams", note=NOTE, columns=("", ""), rows=rows)
