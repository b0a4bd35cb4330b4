"""How long the server takes to start: from `clinvk serve` to its first answer.

python -m bench startup
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.clocks import cpu_s, rounds
from bench.section import Section
from tests.parts.processes import descendants
from tests.parts.server import Server

NOTE = """\
`clinvk serve --port 0` without configuration and with an empty home folder, from the start of the process to the response of `GET /health`,
requested every 50 ms. The CLIs' versions are determined in the background. For comparison, Python itself starting and ending,
in turn."""


def started_s() -> tuple[float, float]:
    """Seconds until the first answer, and CPU seconds of the server by then."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        start = time.perf_counter()
        server = Server(Path(folder), {})
        try:
            taken = time.perf_counter() - start
            return taken, cpu_s([pid for pid in (server.pid, *descendants(server.pid)) if server.is_server(pid)])
        finally:
            server.stop()


def python_s() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True, env={"PATH": os.environ["PATH"]})
    return time.perf_counter() - start


def measure(*, quick: bool = False) -> Section:
    servers, pythons = [], []
    for _ in rounds(3 if quick else 9, 30):
        servers.append(started_s())
        pythons.append(python_s())
    taken, cpu = (statistics.median(column) for column in zip(*servers, strict=True))
    rows = [
        ("first answer", f"{taken * 1e3:.0f} ms", f"{min(t for t, _ in servers) * 1e3:.0f} ms"),
        ("the server's CPU time by then", f"{cpu * 1e3:.0f} ms", f"{min(c for _, c in servers) * 1e3:.0f} ms"),
        ("`python -c pass`", f"{statistics.median(pythons) * 1e3:.0f} ms", f"{min(pythons) * 1e3:.0f} ms"),
    ]
    return Section(title="Start-up", note=NOTE, columns=("", "median", "least"), rows=rows)
