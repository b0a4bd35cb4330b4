"""Memory of a process, and free memory of the system."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import lru_cache
from time import monotonic

GROUPS = {
    "": ("unified", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Linux control groups (v2, v1) by controller name in /proc/self/cgroup: mount folder in hybrid mode, limit file, usage file, and
the field of memory.stat that is reclaimable cache."""
NO_LIMIT = 1 << 60
"""Version 1 reports no limit as the largest whole number of pages, version 2 as ``max``."""
RECENT_S = 0.1
"""A process that is started needs longer to take its memory."""


def rss_mb(pid: int) -> float:
    """0 if unknown: the process has exited, or the system has no /proc."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def free_mb(root: str = "/") -> float:
    """Free memory in MiB: the lower of the machine's and the control groups'. inf if unknown."""
    available = _table(f"{root}/proc/meminfo").get("MemAvailable:", math.inf) * 1024
    return min([available, *_free_in_groups(root)]) / (1 << 20)


def recent_free_mb() -> float:
    """`free_mb` of the last `RECENT_S`: the first run of that time reads its seven files."""
    return _free_mb_in(monotonic() // RECENT_S)


@lru_cache(maxsize=1)
def _free_mb_in(_interval: float) -> float:
    return free_mb()


def _free_in_groups(root: str) -> Iterator[float]:
    """Bytes free in each control group of this process and in their ancestors."""
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
    """The first number of every line, keyed by its first word."""
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) > 1}


def _text(path: str) -> str:
    """Empty if the file does not exist or cannot be read."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
