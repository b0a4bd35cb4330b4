"""What a key's rights and limits add to a request.

    python -m bench rights

A dry run passes all checks of a request and starts no CLI, so its time is the server's. What a limited key adds to a run besides,
its slot and its place in the ledger, is measured without a server.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.clocks import own_cpu_s, percentile, rounds
from bench.section import Section
from services.access.rights import Budget, Rights
from services.store.db import to_url
from tests.parts.clis import FakeCli
from tests.parts.quotas import open_quota_desk
from tests.parts.server import Server

KEY = "a-key-of-the-measurement-0123456789"
LIMITED: dict[str, Any] = {
    "name": "limited",
    "key": KEY,
    "backends": ["claude"],
    "models": ["sonnet*", "claude/*", "default"],
    "workdirs": ["/tmp"],
    "max_approval_mode": "auto",
    "max_sandbox_mode": "workspace",
    "rate_limit_rps": 100_000,
    "rate_limit_burst": 100_000,
    "max_concurrent_runs": 8,
    "max_waiting_runs": 8,
    "budget": [{"usd": 1_000, "per": "month"}, {"tokens": 10**9, "per": "day"}, {"runs": 10**6, "per": "hour"}],
}
PACED = ("rate_limit_rps", "rate_limit_burst")
SERVERS: dict[str, list[Any]] = {
    "no keys": [],
    "a key": [f"plain={KEY}"],
    "a key with all rights": [{name: value for name, value in LIMITED.items() if name not in PACED}],
    "and a rate limit": [LIMITED],
}
DESKS = {
    "no limit": Rights(),
    "runs at once": Rights(max_concurrent_runs=8),
    "runs at once, three budgets": Rights(
        max_concurrent_runs=8,
        budgets=(
            Budget(unit="usd", amount=1e9, per="month"),
            Budget(unit="tokens", amount=1e12, per="day"),
            Budget(unit="runs", amount=1e9, per="hour"),
        ),
    ),
}
BATCH = 50
NOTE = """\
*A request*: a dry run over one connection, p50. *A run*: to get a slot and to give it back with an entry in the ledger (SQLite, one process),
p50, without the run itself: a limited key's slot and entry are written before its caller goes on, twice a run. *CPU* is that of the server's
own processes for a request, of this one for a run. The callers take turns; medians of the rounds, and of what each round has more than
the first caller's. Target: rights add at most 0.2 ms to a request."""


@dataclass(frozen=True)
class Way:
    go: Callable[[], object]
    cpu_s: Callable[[], float]


@dataclass(frozen=True)
class Taken:
    """By a round: the p50, and the mean of CPU."""

    seconds: float
    cpu_s: float


def measure(*, quick: bool = False) -> Section:
    count = 5 if quick else 40
    rows: list[tuple[str, ...]] = []
    for kind, found in (("a request", measure_requests(count)), ("a run", measure_runs(count))):
        first = next(iter(found.values()))
        for name, taken in found.items():
            added = [(one.seconds - before.seconds, one.cpu_s - before.cpu_s) for one, before in zip(taken, first, strict=True)]
            p50_s, cpu_s = statistics.median(one.seconds for one in taken), statistics.median(one.cpu_s for one in taken)
            added_s, added_cpu_s = (statistics.median(values) for values in zip(*added, strict=True))
            rows.append((kind, name, f"{p50_s * 1e3:.3f}", f"{added_s * 1e3:+.3f}", f"{cpu_s * 1e3:.3f}", f"{added_cpu_s * 1e3:+.3f}"))
    columns = ("of", "caller", "p50 ms", "added ms", "CPU ms", "added CPU ms")
    return Section(title="What rights and limits of a key add", note=NOTE, columns=columns, rows=rows)


def measure_requests(count: int) -> dict[str, list[Taken]]:
    with ExitStack() as stack:
        ways: dict[str, Way] = {}
        for name, keys in SERVERS.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            backend = FakeCli(Path(folder) / "reports").backend(warm={"max": 0})
            config = {"default_backend": "claude", "backends": {"claude": backend}, "server": {"api_keys": keys, "log_level": "warning"}}
            server = Server(Path(folder), config, {"CLINVK_API_KEY": KEY})
            stack.callback(server.stop)
            ways[name] = Way(to_request(server), partial(own_cpu_s, server))
        return take_turns(ways, count)


def to_request(server: Server) -> Callable[[], None]:
    address = urlsplit(server.url)
    connection = HTTPConnection(address.hostname or "", address.port)
    body = orjson.dumps({"prompt": "hello", "model": "sonnet", "workdir": "/tmp", "dry_run": True})
    headers = {"Content-Type": "application/json", "X-Api-Key": KEY}

    def ask() -> None:
        connection.request("POST", "/api/v1/prompt", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text

    return ask


def measure_runs(count: int) -> dict[str, list[Taken]]:
    with ExitStack() as stack:
        ways: dict[str, Way] = {}
        for name, rights in DESKS.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
            desk = open_quota_desk(to_url("", folder), {"anna": rights})
            stack.callback(desk.close)
            ways[name] = Way(desk.run, time.process_time)
        return take_turns(ways, count)


def take_turns(ways: dict[str, Way], count: int) -> dict[str, list[Taken]]:
    found: dict[str, list[Taken]] = {name: [] for name in ways}
    for way in ways.values():
        timed(way)
    for _ in rounds(count, 60):
        for name, way in ways.items():
            found[name].append(timed(way))
    return found


def timed(way: Way) -> Taken:
    taken = []
    before_s = way.cpu_s()
    for _ in range(BATCH):
        start = time.perf_counter()
        way.go()
        taken.append(time.perf_counter() - start)
    return Taken(percentile(taken, 0.5), (way.cpu_s() - before_s) / BATCH)
