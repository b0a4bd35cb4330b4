"""How much memory a process holds."""

from __future__ import annotations

import os


def rss_mb(pid: int) -> float:
    """0 where that is not known: it has gone, or the system has no /proc."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
