"""How much memory a process holds, and how much is left for others."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

GROUPS = {
    "": ("unified", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Linux' control groups, both versions, by the name in /proc/self/cgroup: their folder where both are there, the limit, what counts
against it, and which of that (in memory.stat) is a cache that gives way."""
NO_LIMIT = 1 << 60
"""The first version says so by the largest number of whole pages, the second by a word."""


def rss_mb(pid: int) -> float:
    """0 where that is not known: it has gone, or the system has no /proc."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def free_mb(root: str = "/") -> float:
    """What more may be taken: of the machine's memory, or of a control group's limit, whichever is less. inf where nobody knows."""
    available = _table(f"{root}/proc/meminfo").get("MemAvailable:", math.inf) * 1024
    return min([available, *_free_in_groups(root)]) / (1 << 20)


def _free_in_groups(root: str) -> Iterator[float]:
    """In bytes, of each group that this process is in, and of those above it."""
    for line in _text(f"{root}/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in GROUPS:
            continue
        folder, limit, current, cache = GROUPS[controllers]
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in (f"{root}/sys/fs/cgroup/{folder}", f"{root}/sys/fs/cgroup"):
            for length in range(len(parts) + 1):
                group = "/".join((mount, *parts[:length]))
                most = _text(f"{group}/{limit}").strip()
                if most.isdigit() and int(most) < NO_LIMIT and (taken := _text(f"{group}/{current}").strip()):
                    yield int(most) - int(taken) + _table(f"{group}/memory.stat").get(cache, 0.0)


def _table(path: str) -> dict[str, float]:
    """The first number of every line, by its first word."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) > 1}


def _text(path: str) -> str:
    """Empty where there is no such file, or it is not for us."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
