"""What a server holds, and whether after a storm it holds what it held before."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.setting import KEYS, caller
from tests.parts.clis import do
from tests.parts.processes import command_line, eventually, open_fds, rss_bytes, zombies
from tests.parts.server import Server

SETTLE_S = 15.0
"""Warm processes that nobody asks for have gone by then, too (`setting.WARM`)."""
RUN_STARTS = re.compile(r'run_starts_total\{.*?start="(\w+)".*?\} ([\d.e+]+)')
SUPERVISORS_PER_RUN = 2
"""At most: a run's successor may begin while its supervisor still cleans up."""


@dataclass(frozen=True, slots=True)
class Census:
    """``own`` are the processes of the server itself, each with the number of its open descriptors."""

    own: dict[int, int]
    spawners: dict[int, int]
    """They are killed and stopped, and replaced."""
    supervisors: dict[int, int]
    """They come and go with the load, and wait a while for more of it."""
    runs: tuple[str, ...]
    zombies: tuple[int, ...]
    folders: frozenset[str]
    rss_bytes: int


def take(server: Server, temp: Path) -> Census:
    own = server.own()
    program = {pid for pid in own if "spawner_program.py" in command_line(pid)}
    supervisors = [pid for pid in program if not _leads_session(pid)]  # the others are the spawners
    return Census(
        own={pid: _fds(pid) for pid in own if pid not in program},
        spawners={pid: _fds(pid) for pid in program if pid not in supervisors},
        supervisors={pid: _fds(pid) for pid in supervisors},
        runs=tuple(f"{pid}: {command_line(pid)}" for pid in server.runs()),
        zombies=tuple(zombies(server.pid)),
        folders=frozenset(path.name for path in temp.iterdir()),
        rss_bytes=max(map(rss_bytes, (server.pid, *server.workers()))),
    )


def left_over(before: Census, after: Census, *, most_runs: int) -> Iterator[str]:
    """What there is now and was not then, in words."""
    yield from (f"process {run}" for run in after.runs)
    yield from (f"zombie {pid}" for pid in after.zombies)
    yield from (f"folder {name}" for name in sorted(after.folders - before.folders))
    if after.own.keys() != before.own.keys():
        yield f"the server's processes were {sorted(before.own)} and are {sorted(after.own)}"
    for pid, count in after.own.items():
        if count > before.own.get(pid, count):
            yield f"descriptors of {command_line(pid)}: {before.own[pid]} before, {count} after"
    if len(after.spawners) != len(before.spawners):
        yield f"spawners: {len(before.spawners)} before, {len(after.spawners)} after"
    most_fds = max(before.spawners.values(), default=0)
    yield from (f"descriptors of spawner {pid}: {count} instead of {most_fds}" for pid, count in after.spawners.items() if count > most_fds)
    if len(after.supervisors) > most_runs * SUPERVISORS_PER_RUN:
        yield f"{len(after.supervisors)} supervisors for {most_runs} runs at a time"
    most_fds = max(before.supervisors.values(), default=0)
    yield from (
        f"descriptors of supervisor {pid}: {count} instead of {most_fds}" for pid, count in after.supervisors.items() if count > most_fds
    )


def settled(server: Server, temp: Path, before: Census, *, most_runs: int) -> tuple[Census, list[str]]:
    """The census once nothing is left over, or when it has had time enough to be so; and what is left all the same."""

    after = before
    left: list[str] = []

    def is_settled() -> bool:
        nonlocal after, left
        after = take(server, temp)
        left = list(left_over(before, after, most_runs=most_runs))
        return not left

    eventually(is_settled, SETTLE_S)
    return after, left


def places_are_free(server: Server, limit: int) -> bool:
    """Whether ``limit`` runs go at once: all are asked for together and stay, so that a place that was not given back would show."""
    body = {"backend": "plain", "prompt": do(["say", "here"], ["hang"])}
    with ExitStack() as stack:
        for _ in range(limit):
            stack.enter_context(server.client.send("POST", "/api/v1/prompt", body))
        return eventually(lambda: len(server.runs()) == limit, SETTLE_S)


def starts(server: Server) -> Counter[str]:
    """How many runs were in a process of their own, ``cold``, in one that was there, ``warm``, or in both, ``fallback``."""
    counted: Counter[str] = Counter()
    metrics = server.client.get("/metrics")
    assert metrics.status == 200, metrics.body
    for kind, count in RUN_STARTS.findall(metrics.body.decode()):
        counted[kind] += int(float(count))
    return counted


def said_to_be_ready(server: Server) -> list[str]:
    """Where no process is left, none may be said to wait."""
    backends = server.client.get("/api/v1/backends").json["backends"]
    return [
        f"{one['name']}: {one['warm']['ready']} warm processes are said to wait" for one in backends if one["warm"] and one["warm"]["ready"]
    ]


def sessions_still_running(server: Server) -> list[str]:
    """Whatever became of their runs, no session claims to have one."""
    callers = [caller(server, number) for number in range(len(KEYS))]

    def running() -> list[str]:
        return [one["id"] for client in callers for one in client.get("/api/v1/sessions?status=running").json["sessions"]]

    eventually(lambda: not running(), SETTLE_S)
    return [f"session {id} is still running" for id in running()]


def _fds(pid: int) -> int:
    """0 where only root may count them, or the process has gone meanwhile."""
    try:
        return open_fds(pid) if os.getuid() == 0 else 0
    except FileNotFoundError:
        return 0


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False
