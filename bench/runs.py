"""Background runs beside synchronous ones: submission to the first event, CPU for each event, and the replay of a long log.

python -m bench runs
"""

from __future__ import annotations

import json
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.clocks import LEAST_ROUNDS, own_cpu_s, percentile, rounds
from bench.events import compile_c, drain, lines
from bench.section import Section
from tests.parts.server import Server

AT_ONCE = (1, 50, 500)
PAUSE_US = 50_000
LINES = 200
"""Of each run, 20 a second: longer than it takes to start all runs."""
REPLAYED = 10_000
REPLAYS = 9
READ_BYTES = 1 << 16
EVENT = b"data: {"
NOTE = f"""\
A C program writes {LINES} deltas in Claude Code's format, {1_000_000 // PAUSE_US} a second, in a cold process. All runs are asked for at the same moment as SSE streams:
*synchronous* (`/prompt`), or with `background: true`, where each event is stored in SQLite before it is sent. Milliseconds from the request to the first
event; CPU of the server's own processes in microseconds per event, counted from the moment when every run has had its first one; the lowest of the rounds.
Clients are threads of one Python process on the same machine. *Replay*: `GET /runs/{{id}}/events` of an ended run with {REPLAYED:,} events, median and longest of
{REPLAYS}, in milliseconds. Target: 100 ms."""


class Measured(NamedTuple):
    first_p50_s: float
    first_p99_s: float
    cpu_s: float
    """For each event."""


@dataclass
class Burst:
    """Runs that are asked for at the same moment; their streams are read to the end."""

    port: int
    body: bytes
    count: int
    first_s: list[float] = field(default_factory=list)
    all_have_begun: threading.Event = field(default_factory=threading.Event)
    events: int = 0

    def read(self, start: threading.Barrier) -> None:
        head = "POST /api/v1/prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
        start.wait()
        begun = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(f"{head}Content-Length: {len(self.body)}\r\n\r\n".encode() + self.body)
            has_begun = False
            while data := connection.recv(READ_BYTES):
                found = data.count(EVENT)
                self.events += found
                if found and not has_begun:
                    has_begun = True
                    self.first_s.append(time.perf_counter() - begun)
                    if len(self.first_s) == self.count:
                        self.all_have_begun.set()
                if data.endswith(b"0\r\n\r\n"):
                    return


def burst(server: Server, count: int, *, background: bool) -> Measured:
    fields = {"background": True} if background else {"ephemeral": True, "output_format": "stream-json"}
    body = json.dumps({"backend": "claude", "prompt": "x", **fields}).encode()
    one = Burst(int(server.url.rpartition(":")[2]), body, count)
    start = threading.Barrier(count)
    with ThreadPoolExecutor(count) as pool:
        reading = [pool.submit(one.read, start) for _ in range(count)]
        assert one.all_have_begun.wait(120)
        cpu_s, events = own_cpu_s(server), one.events
        for done in reading:
            done.result()
    assert one.events > count * LINES
    return Measured(
        statistics.median(one.first_s), percentile(one.first_s, 0.99), (own_cpu_s(server) - cpu_s) / max(1, one.events - events)
    )


def replays(server: Server) -> list[float]:
    """Seconds."""
    client = server.client
    run_id = client.post("/api/v1/prompt", {"backend": "claude", "prompt": "x", "background": True}).json["id"]
    assert client.get(f"/api/v1/runs/{run_id}?wait=60").json["status"] == "completed"
    found = []
    for _ in range(REPLAYS):
        start = time.perf_counter()
        with client.send("GET", f"/api/v1/runs/{run_id}/events") as sent:
            assert drain(sent.socket) > REPLAYED
        found.append(time.perf_counter() - start)
    return found


@contextmanager
def pouring(folder: Path, *, count: int, pause_us: int = 0) -> Iterator[Server]:
    folder.mkdir()
    told = folder / "lines"
    told.write_bytes(lines(count))
    command = [str(compile_c("pour", folder)), str(told), *([str(pause_us)] if pause_us else [])]
    limits = {
        "max_concurrent_runs": max(AT_ONCE) + 16,
        "max_queued_runs": max(AT_ONCE),
        "rate_limit_enabled": False,
        "log_level": "warning",
    }
    server = Server(folder, {"server": limits, "backends": {"claude": {"command": command, "warm": {"max": 0}}}})
    try:
        yield server
    finally:
        server.stop()


def measure(*, quick: bool = False) -> Section:
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        with pouring(Path(name) / "paced", count=LINES, pause_us=PAUSE_US) as server:
            for count in AT_ONCE[:2] if quick else AT_ONCE:
                found: dict[str, list[Measured]] = {"synchronous": [], "background": []}
                for _ in rounds(1 if quick else LEAST_ROUNDS, 60):
                    for way in found:
                        found[way].append(burst(server, count, background=way == "background"))
                for way, values in found.items():
                    least = Measured(*map(min, zip(*values, strict=True)))
                    rows.append((f"{count} at once", way, f"{least[0] * 1e3:.0f}", f"{least[1] * 1e3:.0f}", f"{least.cpu_s * 1e6:.0f}"))
        with pouring(Path(name) / "long", count=REPLAYED) as server:
            taken = replays(server)
            rows.append((f"{REPLAYED:,} events", "replay", f"{statistics.median(taken) * 1e3:.0f}", f"{max(taken) * 1e3:.0f}", ""))
    return Section(
        title="Background runs", note=NOTE, columns=("runs", "way", "first event p50 (replay: median)", "p99 (longest)", "CPU µs an event"),
        rows=rows,
    )  # fmt: skip
