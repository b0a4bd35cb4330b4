"""Process attributes of the server (Linux, prctl(2)). Standard library only: the spawner uses it.

On other systems these functions do nothing; SECURITY.md describes the consequences.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37

# Fields of /proc/self/stat after the name in parentheses, counted from 0 (proc(5) counts from the pid, which is 1).
ENV_START, ENV_END = 50 - 3, 51 - 3


def become_subreaper() -> None:
    """Descendants whose parent dies become children of this process instead of PID 1."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_subreaper() -> bool:
    answer = ctypes.c_int()
    return (
        sys.platform == "linux"
        and ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0
        and answer.value == 1
    )


def forbid_inspection() -> None:
    """Prevent other processes of the same user from tracing this one or reading its memory and environment. Disables core dumps.

    Forked processes inherit it until they call exec. It does not apply to root.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def hide_environment(prefix: str) -> None:
    """Remove the variables that start with ``prefix`` from /proc/PID/environ. They stay in `os.environ`.

    The kernel shows the process's initial environment block. The variables are set again, which copies them elsewhere, and the
    block is overwritten. Idempotent; call it before starting threads.
    """
    if sys.platform != "linux":
        return
    for name in [name for name in os.environ if name.startswith(prefix)]:
        os.environ[name] = os.environ[name]  # the C library now points to a copy
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[ENV_START]), int(fields[ENV_END])
    if not start:  # the kernel does not expose the addresses
        return
    address = start
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        if entry.startswith(prefix.encode()):
            ctypes.memset(address, 0, len(entry))
        address += len(entry) + 1
