"""What a process of the server asks the system for on its own behalf (Linux, prctl(2)). Standard library alone: the spawner uses it.

Elsewhere than on Linux these functions do nothing; SECURITY.md says what is lost by that.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37

# Fields of /proc/self/stat behind the name in parentheses, counted from 0 (proc(5) counts from the pid, which is 1).
ENV_START, ENV_END = 50 - 3, 51 - 3


def become_subreaper() -> None:
    """Descendants whose parent dies become children of this process, instead of process 1's."""
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
    """Let no other process of the same user trace this one, or read its memory and environment; its core is not dumped.

    Holds for processes that are forked from it, until they start a program. Root passes over it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def hide_environment(prefix: str) -> None:
    """Remove the variables that start with ``prefix`` from /proc/PID/environ. This process still has them in `os.environ`.

    The kernel shows the memory in which the program was started. The variables are set anew, which copies them elsewhere, and
    overwritten there. May be called again; call it before there are threads.
    """
    if sys.platform != "linux":
        return
    for name in [name for name in os.environ if name.startswith(prefix)]:
        os.environ[name] = os.environ[name]  # from here on the C library points to a copy
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    start, end = int(fields[ENV_START]), int(fields[ENV_END])
    if not start:  # the system does not say where it is
        return
    address = start
    for entry in ctypes.string_at(start, end - start).split(b"\0"):
        if entry.startswith(prefix.encode()):
            ctypes.memset(address, 0, len(entry))
        address += len(entry) + 1
