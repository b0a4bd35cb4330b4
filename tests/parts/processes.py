"""Process information from /proc (Linux), and polling."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.parts.programs import do_without

POLL_S = 0.02
PATIENCE_S = 30.0
"""How long a test waits for what takes a moment: on a busy machine a real CLI takes ten times its usual time to start or to end."""
READ_BYTES = 1 << 16
MARK = "LC_CLINVK_TEST"
"""An environment variable that is passed from the server to the CLIs and their shells, as all of ``LC_*``.

It finds processes that have left the tree (a new session, a dead parent).
"""


def eventually(check: Callable[[], object], within_s: float = PATIENCE_S) -> bool:
    """Poll until ``check`` returns a true value or the deadline passes. Checks once more at the deadline."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(POLL_S)
    return bool(check())


def state(pid: int) -> tuple[str, int] | None:
    """One letter (R, S, Z, …) and the parent's PID; None if there is no such process."""
    stat = read(f"/proc/{pid}/stat")
    if not stat:
        return None
    letter, parent = stat.rsplit(b")", 1)[1].split()[:2]
    return letter.decode(), int(parent)


def alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    now = state(pid)
    return now is not None and now[0] not in "ZX"


def pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def descendants(pid: int) -> list[int]:
    """All descendants, including zombies."""
    found, todo = [], [pid]
    while todo:
        todo = [child for parent in todo for child in children(parent)]
        found += todo
    return found


def children(pid: int) -> list[int]:
    """Its children, including zombies."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in read(f"/proc/{pid}/task/{thread}/children").split()]


def zombies(pid: int) -> list[int]:
    return [child for child in descendants(pid) if (now := state(child)) and now[0] == "Z"]


def marked(mark: str) -> list[int]:
    """Live processes that were started with ``MARK=mark`` in their environment."""
    entry = f"{MARK}={mark}".encode()
    return [pid for pid in pids() if entry in read(f"/proc/{pid}/environ").split(b"\0") and alive(pid)]


def read(path: str) -> bytes:
    """The whole file, or nothing. Tests poll hundreds of these: ``Path.read_bytes`` would take three times as long."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(file, READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    except OSError:  # it has ended meanwhile
        return b""
    finally:
        os.close(file)


def command_line(pid: int) -> str:
    return read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def open_fds(pid: int) -> int:
    return len(_fd_numbers(pid))


def fd_limit_with(pid: int, free: int) -> int:
    """The RLIMIT_NOFILE that lets ``pid`` open ``free`` more: it limits the numbers, and lower ones may be free."""
    used = _fd_numbers(pid)
    limit = 0
    while free:
        free -= limit not in used
        limit += 1
    return limit


def _fd_numbers(pid: int) -> set[int]:
    try:
        return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    except PermissionError:
        do_without("only root may count the descriptors of a server, which no process of its user may look into")


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
