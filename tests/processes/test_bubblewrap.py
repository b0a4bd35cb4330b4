"""The sandbox against a process that wants out of it, as root and as an ordinary user; and what the start makes of one that leaks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.errors import BackendUnavailable
from services.processes import bubblewrap
from services.processes.bubblewrap import KERNEL_FILES, gaps_in_mounts, gaps_in_status, unavailable_reason, wrapped
from tests.parts.programs import do_without
from tests.parts.users import PYTHON, USERS, started_as

SECRET = "a-secret-in-the-environment-of-the-server"
PTRACE = """
import ctypes, os, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
failed = [pid for pid in map(int, sys.argv[1].split()) if ptrace(16, pid, 0, 0) < 0]  # PTRACE_ATTACH
sys.exit(len(failed) == len(sys.argv[1].split()))
"""

ATTACKS = {
    "remounts the root folder": "mount -o remount,bind,rw / && touch {outside}/made",
    "remounts what it may not write to": "mount -o remount,bind,rw {outside} || mount -o remount,rw /",
    "mounts over a folder": "mount -t tmpfs none /mnt",
    "takes a mount away": "umount /run || umount -l /tmp",
    "makes a name space and remounts there": "unshare --user --map-root-user --mount sh -c 'mount -o remount,bind,rw / && touch {outside}/made'",
    "makes a name space and takes a mount away there": "unshare --user --map-root-user --mount umount /run",
    "makes a device node of the disk": "mknod $TMPDIR/disk b 254 0 && head -c 1 $TMPDIR/disk",
    "enters the name space of process 1": "nsenter --target 1 --mount true",
    "changes the root folder": "chroot / true",
    "becomes another user": "setpriv --reuid 12345 true",
    "writes outside": "touch {outside}/made",
    "writes outside by the way of a process's root": "touch /proc/1/root{outside}/made",
    "has the kernel start a program": "cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern",
    "writes to a file of the kernel": "cat /proc/sys/vm/swappiness > /proc/sys/vm/swappiness",
    "writes to a file of a device": "cat /sys/kernel/mm/transparent_hugepage/enabled > /sys/kernel/mm/transparent_hugepage/enabled",
    "stops the server": "kill -0 {server}",
    "finds the server by its process group": "kill -0 -{server}",
    "traces the server": "{python} -c '{ptrace}' '{server}'",
    "reads the server's environment": "cat /proc/{server}/environ",
    "looks through every environment": "grep -aqs {secret} /proc/[0-9]*/environ",
}
HARMLESS = [
    "writes outside", "stops the server", "finds the server by its process group", "traces the server",
    "reads the server's environment", "looks through every environment",
]  # fmt: skip
"""What may be tried without a sandbox, to see that it is the sandbox by which it fails."""


@pytest.fixture(autouse=True, scope="module")
def works() -> None:
    if reason := unavailable_reason():
        do_without(reason)


@pytest.fixture(params=USERS)
def who(request: pytest.FixtureRequest) -> dict[str, Any]:
    return started_as(request.param)


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory, who: dict[str, Any]) -> Iterator[Path]:
    """A workdir that this user owns, and may reach; beside it is a folder that he owns, too."""
    folder = Path(f"/var/tmp/clinvk-test-{os.getpid()}")
    for name in ("work", "outside"):
        (folder / name).mkdir(parents=True)
        os.chown(folder / name, who.get("user", -1), who.get("group", -1))
    yield folder / "work"
    shutil.rmtree(folder)


@pytest.fixture
def server(who: dict[str, Any]) -> Iterator[int]:
    """The id of a process of the same user outside, which has a secret."""
    with subprocess.Popen(["sleep", "600"], env={"KEY": SECRET}, cwd="/", start_new_session=True, **who) as process:
        yield process.pid
        process.kill()


def attack(script: str, work: Path, who: dict[str, Any], *, is_free: bool = False) -> subprocess.CompletedProcess[str]:
    argv = ["sh", "-c", script]
    if not is_free:
        argv = wrapped(argv, cwd=str(work), writable=(), temporary=(), hidden=())
    env = {"PATH": os.environ["PATH"], "TMPDIR": str(work)}
    return subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False, **who)


def script_of(name: str, work: Path, server: int) -> str:
    return ATTACKS[name].format(outside=work.parent / "outside", server=server, secret=SECRET, python=PYTHON, ptrace=PTRACE)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_process_in_the_sandbox_fails_when_it(name: str, work: Path, who: dict[str, Any], server: int) -> None:
    outside = work.parent / "outside"
    done = attack(script_of(name, work, server), work, who)
    assert done.returncode != 0, done.stdout
    assert "not found" not in done.stderr, "the attack needs a program that is not there"
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", HARMLESS)
def test_without_the_sandbox_it_succeeds_when_it(name: str, work: Path, who: dict[str, Any], server: int) -> None:
    done = attack(script_of(name, work, server), work, who, is_free=True)
    assert done.returncode == 0, done.stderr


def test_a_process_in_the_sandbox_works_in_its_own_folder(work: Path, who: dict[str, Any]) -> None:
    done = attack("echo x > made && cat made && grep Cap /proc/self/status", work, who)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "x"
    assert (work / "made").stat().st_uid == who.get("user", os.getuid())


def test_no_file_of_the_kernel_is_writable_inside(work: Path, who: dict[str, Any]) -> None:
    done = attack("find /proc /sys -not -path '/proc/[0-9]*' -type f -writable", work, who)
    assert done.stdout == ""


@pytest.mark.parametrize("folder", ["/", "/proc", "/proc/sys", "/sys", "/dev"])
def test_a_workdir_that_would_open_the_sandbox_is_refused(folder: str) -> None:
    with pytest.raises(BackendUnavailable, match="choose another folder"):
        wrapped(["true"], cwd=folder, writable=(), temporary=(), hidden=())


def seen_inside(monkeypatch: pytest.MonkeyPatch, left_out: set[str], *more: str) -> str | None:
    """What the start says of a sandbox without these words of its command line, and with those."""
    monkeypatch.setattr(bubblewrap, "BASE", (*(word for word in bubblewrap.BASE if word not in left_out), *more))
    return unavailable_reason.__wrapped__()


def test_the_start_refuses_a_sandbox_that_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        assert seen_inside(patch, set(), "--bind", "/var", "/var") == "bubblewrap's sandbox is not effective here: /var is writable"
    with monkeypatch.context() as patch:
        assert (
            seen_inside(patch, set(), "--ro-bind", "/proc", "/mnt")
            == "bubblewrap's sandbox is not effective here: /mnt shows processes outside the sandbox"
        )
    if os.getuid() == 0:
        with monkeypatch.context() as patch:
            assert "a process in it has capabilities" in (seen_inside(patch, {"--cap-drop", "ALL"}) or "")


def test_what_a_status_shows() -> None:
    status = "Name:\tcat\nCapInh:\t00\nCapPrm:\t{0}\nCapEff:\t{0}\nCapBnd:\tff\nCapAmb:\t00\nNoNewPrivs:\t{1}\n"
    assert list(gaps_in_status(status.format("00", "1"))) == []
    assert list(gaps_in_status(status.format("80", "0"))) == [
        "a process in it has capabilities (CapPrm, CapEff)",
        "a process in it can gain privileges (NoNewPrivs is 0)",
    ]


def test_a_mount_that_a_later_one_covers_is_no_gap() -> None:
    lines = [
        "66 42 254:0 / / ro,nosuid - ext4 /dev/vda rw",
        "68 66 0:21 / /srv/data rw,nosuid shared:1 - ext4 /dev/vdb rw",
        "97 66 0:44 / /srv ro,nosuid - tmpfs tmpfs rw",
    ]
    assert list(gaps_in_mounts("\n".join(lines))) == []
    assert list(gaps_in_mounts("\n".join(lines[:2]))) == ["/srv/data is writable"]


def test_every_file_of_the_kernel_is_bound_read_only() -> None:
    assert {f"/proc/{name}" for name in KERNEL_FILES} < set(bubblewrap.BASE)
