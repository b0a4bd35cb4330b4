"""How long one request can hold the event loop: the longest `GET /health` beside each of the worst bodies.

python -m bench loop
"""

from __future__ import annotations

import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bench.bodies import Body, bodies
from bench.clocks import cpu_s
from bench.section import Section
from tests.parts.clis import FakeCli
from tests.parts.server import Server

TRIES = 3
NOTE = f"""\
One worker; one client requests `GET /health` repeatedly while another sends one request. The table shows the slowest `/health`
response, the least of {TRIES} tries, and the CPU time that the worker used meanwhile. Target: at most 250 ms."""


class Gap(NamedTuple):
    """``wall_s``: the longest time that an answer of `/health` took. ``cpu_s``: the most that the worker computed during one."""

    wall_s: float
    cpu_s: float
    status: int


class Health:
    """Asks `GET /health` over and over, in a thread, inside the ``with`` block; then has ``longest_s`` and ``most_cpu_s``."""

    def __init__(self, server: Server) -> None:
        where = urlsplit(server.url)
        self._connection = HTTPConnection(where.hostname or "", where.port, timeout=120)
        self._workers = server.workers()
        self._is_over = False
        self._thread = threading.Thread(target=self._ask)
        self.longest_s = self.most_cpu_s = 0.0

    def _ask(self) -> None:
        while not self._is_over:
            start, before = time.perf_counter(), cpu_s(self._workers)
            self._connection.request("GET", "/health")
            self._connection.getresponse().read()
            self.longest_s = max(self.longest_s, time.perf_counter() - start)
            self.most_cpu_s = max(self.most_cpu_s, cpu_s(self._workers) - before)
            time.sleep(0.001)

    def __enter__(self) -> Health:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        self._connection.close()


def gap(server: Server, path: str, data: bytes, session: str) -> Gap:
    """Send ``data`` once, and see how long the loop stands still meanwhile."""
    where = urlsplit(server.url)
    connection = HTTPConnection(where.hostname or "", where.port, timeout=300)
    with Health(server) as health:
        time.sleep(0.02)
        connection.request("POST", path.replace("{session}", session), data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        while answer.read(1 << 20):
            pass
        time.sleep(0.02)
    connection.close()
    return Gap(health.longest_s, health.most_cpu_s, answer.status)


def least(server: Server, body: Body, session: str, tries: int) -> Gap:
    """The shortest of some tries: what a neighbour on the machine adds is not the server's."""
    data = body.make()
    found = [gap(server, body.route, data, session)]
    while len(found) < tries and found[-1].wall_s > 0.02:
        found.append(gap(server, body.route, data, session))
    return Gap(min(one.wall_s for one in found), min(one.cpu_s for one in found), found[-1].status)


def start(folder: Path) -> Server:
    cli = FakeCli(folder / "reports")
    backend = cli.backend(warm={"max": 0}, env=cli.keeping)
    return Server(folder, {"default_backend": "claude", "backends": {"claude": backend}, "server": {"log_level": "warning"}})


def measure(*, quick: bool = False) -> Section:
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = start(Path(folder))
        try:
            session = str(server.client.post("/api/v1/sessions", {"title": "x"}).json["id"])
            for body in bodies():
                found = least(server, body, session, 1 if quick else TRIES)
                rows.append((body.route, body.name, f"{found.wall_s * 1e3:.0f}", f"{found.cpu_s * 1e3:.0f}", found.status))
                print(*rows[-1], "" if found.status in body.statuses else f"!! expected {body.statuses}", sep=" | ", flush=True)
        finally:
            server.stop()
    return Section(title="How long one request holds the event loop", note=NOTE, columns=("route", "body", "longest ms", "CPU ms", "status"),
                   rows=rows)  # fmt: skip
