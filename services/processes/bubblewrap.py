"""The sandbox of Debian's package bubblewrap: the whole file system read-only but for the folders that a run works in.

The run sees no process but its own, so it can neither signal the server nor read its memory and environment. /tmp and /run
are its own and empty (a socket there, Docker's for one, would be a way out of any read-only file system), so a CLI that is
installed there cannot be started. The network stays: the CLI must reach its model.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from functools import cache

from services.errors import BackendUnavailable

PROGRAM = "bwrap"
PROBE_TIMEOUT_S = 10.0

BASE = (
    PROGRAM, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run",
    "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve",
)  # fmt: skip


def wrapped(argv: Sequence[str], *, cwd: str, writable: Sequence[str], temporary: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """``argv`` inside the sandbox. ``writable`` folders that are missing are made where that is possible, ``temporary`` are not."""
    if os.path.realpath(cwd) == "/":
        raise BackendUnavailable("the sandbox has no use with the workdir /: choose a folder below it", issue="workdir is /")
    command = [*BASE]
    for folder in writable:
        if not os.path.splitext(folder)[1]:
            with contextlib.suppress(OSError):
                os.makedirs(folder, mode=0o700, exist_ok=True)
    for folder in dict.fromkeys(filter(None, [*writable, *temporary, cwd])):
        command += ["--bind-try", folder, folder]
    for path in hidden:
        if os.path.isdir(path):
            command += ["--tmpfs", path]
        elif os.path.exists(path):
            command += ["--ro-bind", "/dev/null", path]
    return [*command, "--chdir", cwd, "--", *argv]


@cache
def why_not() -> str | None:
    """Why no sandbox can be had on this machine; None where it can. Tried once."""
    try:
        done = subprocess.run([*BASE, "--chdir", "/", "--", "true"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False)
    except FileNotFoundError:
        return "bubblewrap was not found on PATH; on Debian and Ubuntu: apt-get install bubblewrap"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here: {error}"
    said = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else f"bubblewrap does not work here: {said[-1] if said else f'exit code {done.returncode}'}"
