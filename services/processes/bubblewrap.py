"""The sandbox of Debian's package bubblewrap: the whole file system read-only but for the folders that a run works in.

The run sees no process but its own, so it can neither signal the server nor read its memory and environment. It holds no capability,
root's run included. /tmp and /run are its own and empty (a socket there, Docker's for one, would be a way out of any read-only file
system), so a CLI that is installed there cannot be started. The network stays: the CLI must reach its model.
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

# bubblewrap 0.8.0 takes the mode of a folder in /proc for that of the files below it, so /proc/sys stays writable for root, and with
# it kernel/core_pattern, which names a program that the kernel starts as root outside of any sandbox.
KERNEL_FILES = ("sys", "fs", "bus", "irq", "acpi", "scsi", "mtrr", "pressure", "sysrq-trigger")
"""What in /proc is not about processes and may be writable."""

BASE = (
    PROGRAM, "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL",
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
    *(word for name in KERNEL_FILES for word in ("--ro-bind-try", f"/proc/{name}", f"/proc/{name}")),
    "--tmpfs", "/tmp", "--tmpfs", "/run", "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve",
)  # fmt: skip

KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
OWN_FOLDERS = (*KERNEL_FOLDERS, "/tmp", "/run")
"""What a sandbox has of its own, and may therefore write to."""


def wrapped(argv: Sequence[str], *, cwd: str, writable: Sequence[str], temporary: Sequence[str], hidden: Sequence[str]) -> list[str]:
    """``argv`` inside the sandbox. ``writable`` folders that are missing are made where that is possible, ``temporary`` are not."""
    real = os.path.realpath(cwd)
    if real == "/" or _is_in(real, KERNEL_FOLDERS):
        raise BackendUnavailable(
            f"the sandbox cannot protect anything with the workdir {cwd}: choose another folder", issue=f"workdir is {cwd}"
        )
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
    """Why no sandbox can be had on this machine; None where one was started and holds. Tried once."""
    look = [*BASE, "--chdir", "/", "--", "cat", "/proc/self/status", "/proc/self/mountinfo"]
    env = {"PATH": os.environ.get("PATH", os.defpath)}  # the server's own is not for others to read in /proc
    try:
        done = subprocess.run(look, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False, env=env)
    except FileNotFoundError:
        return "bubblewrap was not found on PATH; on Debian and Ubuntu: apt-get install bubblewrap"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not work here: {error}"
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return f"bubblewrap does not work here: {said[-1] if said else f'exit code {done.returncode}'}"
    gaps = [*gaps_in_status(done.stdout), *gaps_in_mounts(done.stdout)]
    return f"bubblewrap's sandbox does not hold here: {'; '.join(gaps)}" if gaps else None


def gaps_in_status(text: str) -> Iterator[str]:
    """What /proc/self/status, read inside, shows that a process could do beyond its sandbox."""
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(fields[name], 16)]
    if held:
        yield f"a process in it holds capabilities ({', '.join(held)})"
    if fields["NoNewPrivs"] != "1":
        yield "a process in it can gain privileges (NoNewPrivs is 0)"


def gaps_in_mounts(text: str) -> Iterator[str]:
    """What /proc/self/mountinfo, read inside, shows that a process could write to, or see other processes in."""
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
            yield f"{point} shows the processes of others"


def _is_in(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
