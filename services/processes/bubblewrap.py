"""A sandbox with bubblewrap (Debian package ``bubblewrap``): the file system is read-only except for the folders of the run.

The run has its own PID namespace, so it can neither signal the server nor read its memory and environment. It has no capabilities, even
as root. /tmp and /run are private and empty (a socket there, such as Docker's, would bypass a read-only file system), so a CLI
installed there cannot be started. The network is not isolated: the CLI must reach its model.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache

from services.errors import BackendUnavailable

PROGRAM = "bwrap"
PROBE_TIMEOUT_S = 10.0

# bubblewrap 0.8.0 judges the files below a folder in /proc by the folder's mode, so /proc/sys stays writable for root, including
# kernel/core_pattern, which names a program that the kernel starts as root outside any sandbox.
KERNEL_FILES = ("sys", "fs", "bus", "irq", "acpi", "scsi", "mtrr", "pressure", "sysrq-trigger")
"""Entries of /proc that do not describe processes and may be writable."""

BASE = (
    PROGRAM, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL",
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
    *(word for name in KERNEL_FILES for word in ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")),
    "--tmpfs", "/tmp", "--tmpfs", "/run", "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve",
)  # fmt: skip

KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
OWN_FOLDERS = (*KERNEL_FOLDERS, "/tmp", "/run")
"""Private to the sandbox, so it may write to them."""


def wrapped(argv: Sequence[str], *, cwd: str, writable: Sequence[str], temporary: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """``argv`` wrapped in the sandbox. Missing ``writable`` folders are created if possible, ``temporary`` ones are not."""
    real = os.path.realpath(cwd)
    if real == "/" or _is_in(real, KERNEL_FOLDERS):
        raise BackendUnavailable(f"the sandbox cannot use {cwd} as workdir; choose another folder", issue=f"workdir is {cwd}")
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
def unavailable_reason() -> str | None:
    """Why the sandbox does not work on this machine; None if a test run in it succeeded. Checked once per process."""
    probe = [*BASE, "--chdir", "/", "--", "cat", "/proc/self/status", "/proc/self/mountinfo"]
    env = {"PATH": os.environ.get("PATH", os.defpath)}  # keep the server's environment out of /proc/PID/environ
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False, env=env)
    except FileNotFoundError:
        return "bubblewrap was not found on PATH; on Debian and Ubuntu: apt-get install bubblewrap"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here: {error}"
    if done.returncode:
        errors = done.stderr.strip().splitlines()
        return f"bubblewrap does not work here: {errors[-1] if errors else f'exit code {done.returncode}'}"
    gaps = [*gaps_in_status(done.stdout), *gaps_in_mounts(done.stdout)]
    return f"bubblewrap's sandbox is not effective here: {'; '.join(gaps)}" if gaps else None


def gaps_in_status(text: str) -> Iterator[str]:
    """Privileges that a sandboxed process has, from its /proc/self/status."""
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(fields[name], 16)]
    if held:
        yield f"a process in it has capabilities ({', '.join(held)})"
    if fields["NoNewPrivs"] != "1":
        yield "a process in it can gain privileges (NoNewPrivs is 0)"


def gaps_in_mounts(text: str) -> Iterator[str]:
    """Writable mounts, and mounts that show other processes, from /proc/self/mountinfo of a sandboxed process."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        point, options = before.split()[4:6]
        mounts = {other: mount for other, mount in mounts.items() if not _is_in(other, (point,))}  # a later mount covers those below
        mounts[point] = (after.split()[0], options)
    for point, (kind, options) in mounts.items():
        if "ro" not in options.split(",") and not _is_in(point, OWN_FOLDERS):
            yield f"{point} is writable"
        if kind == "proc" and not _is_in(point, ("/proc",)):
            yield f"{point} shows processes outside the sandbox"


def _is_in(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
