"""Process information from the system. Standard library only: the supervisor uses it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection

PROC = "/proc"
READ_BYTES = 65_536
DEAD = (b"Z", b"X")
"""States of a process that has ended and has not been reaped."""
READINGS = 5
"""So many times the lists of children are read until two readings are the same; else every process is looked at."""

Tree = dict[int, list[int]]
"""A process → its children."""


def descendants(root: int, without: Collection[int] = ()) -> list[int]:
    """The live descendants of ``root``, except ``without`` and their descendants. From /proc if mounted, else from ps(1)."""
    tree = _settled(lambda: _tree_below(root, without)) or _whole_tree()
    found, queue = [], [root]
    while queue:
        below = [pid for pid in tree.get(queue.pop(), []) if pid not in without]
        found += below
        queue += below
    return [pid for pid in found if _is_live(pid)]


def children(parent: int) -> list[int]:
    """The live children of ``parent``."""
    tree = _settled(lambda: _tree_of(parent)) or _whole_tree()
    return [pid for pid in tree.get(parent, []) if _is_live(pid)]


def _settled(read: Callable[[], Tree | None]) -> Tree | None:
    """What was read twice in a row. The kernel leaves a process out of its parent's list if the one before it there is reaped while
    the list is read (proc(5)), and one whose parent ends moves to another list; either way the next reading is a different one.
    None if the lists cannot be read or keep changing."""
    before = None
    for _ in range(READINGS):
        tree = read()
        if tree is None or tree == before:
            return tree
        before = tree
    return None


def _tree_below(root: int, without: Collection[int]) -> Tree | None:
    tree: Tree = {}
    queue = [root]
    while queue:
        pid = queue.pop()
        below = _listed(pid)
        if below is None and pid == root:
            return None
        tree[pid] = [child for child in below or [] if child not in without]
        queue += [child for child in tree[pid] if child not in tree]
    return tree


def _tree_of(parent: int) -> Tree | None:
    below = _listed(parent)
    return None if below is None else {parent: below}


def _listed(parent: int) -> list[int] | None:
    """The children of ``parent``, zombies too, from the lists of its threads. None if there are no such lists (Linux has them if
    built with CONFIG_PROC_CHILDREN), or no such process."""
    try:
        threads = os.listdir(f"{PROC}/{parent}/task")
        if not os.path.exists(f"{PROC}/{parent}/task/{parent}/children"):
            return None
    except OSError:
        return None
    found: list[int] = []
    for thread in threads:
        found += map(int, _read(f"{PROC}/{parent}/task/{thread}/children").split())
    return found


def parent_of(pid: int) -> int | None:
    """None if the process has exited, or without /proc."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _whole_tree() -> Tree:
    tree: Tree = {}
    for pid, parent in _processes():
        tree.setdefault(parent, []).append(pid)
    return tree


def _processes() -> list[tuple[int, int]]:
    """(pid, parent) of every process that is not a zombie."""
    if not os.path.isdir(f"{PROC}/self"):
        listing = subprocess.run(["ps", "-axo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listing.splitlines()]
        return [(int(pid), int(parent)) for pid, parent, state in rows if not state.startswith("Z")]
    stats = ((int(name), _stat(int(name))) for name in os.listdir(PROC) if name.isdigit())
    return [(pid, int(fields[1])) for pid, fields in stats if fields and fields[0] not in DEAD]


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on; empty if the process has gone."""
    # The command name in parentheses may contain spaces and parentheses; parse after the last parenthesis.
    return _read(f"{PROC}/{pid}/stat").rpartition(b") ")[2].split()


def _is_live(pid: int) -> bool:
    """No zombie. Without /proc, `_processes` has left those out."""
    fields = _stat(pid)
    return fields[0] not in DEAD if fields else not os.path.isdir(f"{PROC}/self")


def _read(path: str) -> bytes:
    """Empty if it is not there any more. Without `open`, whose calls of fstat(2) would be half of all."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(file, READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # ESRCH: it has exited in the meantime
        return b""
    finally:
        os.close(file)


def inside(pid: int, wrapper: str) -> int:
    """The first process at or below ``pid`` that is not ``wrapper``: the target of signals."""
    while _name(pid) == wrapper and (below := children(pid)):
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
