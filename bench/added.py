"""What a cold run adds to the first token, measured with a C program as the CLI, whose own time is negligible.

    python -m bench added

The real CLIs take a second, and vary by more than what is measured here.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from bench.clocks import percentile
from bench.events import compile_c, lines
from bench.section import Section
from tests.parts.server import Server

FIRST = b"tok0"
NOTE = """\
A C program that writes 20 tokens in Claude Code's format at once, started directly and by a cold server (`warm: {{max: 0}}`), {count} times each, in
turn: from the start of the process, or the request on a new connection, to the first token. Milliseconds. Target: at most 5 ms more."""


def direct_s(argv: list[str]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        first = next(time.perf_counter() for line in process.stdout if FIRST in line)
        process.stdout.read()
    return first - start


def served_s(server: Server) -> float:
    start = time.perf_counter()
    with server.client.prompt_stream("claude", "x", ephemeral=True) as stream:
        arrivals = stream.lines()
        first = next(time.perf_counter() for arrival in arrivals if FIRST.decode() in arrival.data)
        assert list(arrivals)
    return first - start


def measure(*, quick: bool = False) -> Section:
    count = 100 if quick else 400
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        source = folder / "lines"
        source.write_bytes(lines(20))
        command = [str(compile_c("pour", folder)), str(source)]
        limits = {"rate_limit_enabled": False, "log_level": "warning"}
        server = Server(folder, {"server": limits, "backends": {"claude": {"command": command, "warm": {"max": 0}}}})
        try:
            direct, served = [], []
            for number in range(count + 10):
                times = direct_s(command), served_s(server)
                if number >= 10:
                    direct.append(times[0])
                    served.append(times[1])
        finally:
            server.stop()
    measures = {"median": statistics.median, "p99": lambda values: percentile(values, 0.99), "least": min}
    found = {way: [of(values) * 1e3 for of in measures.values()] for way, values in (("direct", direct), ("served", served))}
    found["added"] = [with_it - without for with_it, without in zip(found["served"], found["direct"], strict=True)]
    return Section(
        title="What a cold start adds to the first token",
        note=NOTE.format(count=count),
        columns=("", *measures),
        rows=[(way, *(f"{value:.2f}" for value in values)) for way, values in found.items()],
    )
