"""Ownership of processes, detectable after the owner has died.

A CLI is started with an environment variable that identifies its server process. Its descendants inherit it, whatever
their session or parent.
"""

from __future__ import annotations

import os
import secrets
from functools import cache

MARK = "RUN_OF_CLINVK"
"""Not ``CLINVK_*``: those configure the server and are not passed to CLIs."""


def new_mark() -> str:
    """The value of `MARK` for one run: PID namespace, PID and start time of this process, then a random part."""
    return f"{_process(os.getpid())}.{secrets.token_hex(8)}"


@cache
def _process(pid: int) -> str:
    return f"{_namespace()}.{pid}.{start_time(pid) or 0}"


def has_owner(value: str) -> bool:
    """Whether the process that set this mark is alive. Unknown ones (in another container) count as alive."""
    namespace, pid, started = [*value.split("."), "", ""][:3]
    if namespace != _namespace() or not pid.isdecimal() or not started.isdecimal():
        return True
    return start_time(int(pid)) == int(started)


def start_time(pid: int) -> int | None:
    """Start time of the process in clock ticks, which makes a PID unique. None: no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@cache
def _namespace() -> str:
    """This process's PID namespace. Empty on systems without namespaces."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""
