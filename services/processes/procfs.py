"""Process information from the system. Standard library only: the supervisor uses it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection


def descendants(root: int, without: Collection[int] = ()) -> list[int]:
    """The live descendants of ``root``, except ``without`` and their descendants. From /proc if mounted, else from ps(1)."""
    children: dict[int, list[int]] = {}
    for pid, parent in _processes():
        children.setdefault(parent, []).append(pid)
    found, queue = [], [root]
    while queue:
        below = [pid for pid in children.get(queue.pop(), []) if pid not in without]
        found += below
        queue += below
    return found


def children(parent: int) -> list[int]:
    """The live children of ``parent``."""
    return [pid for pid, above in _processes() if above == parent]


def parent_of(pid: int) -> int | None:
    """None if the process has exited, or without /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b") ")[2].split()[1])
    except OSError:
        return None


def _processes() -> list[tuple[int, int]]:
    """(pid, parent) of every process that is not a zombie."""
    if not os.path.isdir("/proc/self"):
        listing = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listing.splitlines()]
        return [(int(pid), int(parent)) for pid, parent, state in rows if not state.startswith("Z")]
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                stat = file.read()
        except OSError:  # it has exited in the meantime
            continue
        # The command name in parentheses may contain spaces and parentheses; parse after the last parenthesis.
        state, parent = stat[stat.rindex(b")") + 2 :].split()[:2]
        if state not in (b"Z", b"X"):
            found.append((int(name), int(parent)))
    return found


def inside(pid: int, wrapper: str) -> int:
    """The first process at or below ``pid`` that is not ``wrapper``: the target of signals."""
    parents = _processes()
    while _name(pid) == wrapper:
        below = [child for child, parent in parents if parent == pid]
        if not below:
            break
        pid = below[0]
    return pid


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def usage(pids: list[int]) -> dict[str, float]:
    """Resource usage by the names of the limits: CPU seconds including reaped children, unshared resident memory, number
    of processes. Zero without /proc."""
    ticks = pages = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b") ")[2].split()
            with open(f"/proc/{pid}/statm", "rb") as file:
                _, resident, shared = map(int, file.read().split()[:3])
        except OSError:  # it has exited in the meantime
            continue
        ticks += sum(map(int, fields[11:15]))
        pages += resident - shared
    return {
        "cpu_secs": ticks / os.sysconf("SC_CLK_TCK"),
        "memory_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "processes": len(pids),
    }


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
