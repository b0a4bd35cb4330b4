"""What a process of the server keeps from other processes of its user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.parts.server import ROOT
from tests.parts.users import PYTHON, USERS, started_as

SECRET = "the-key-itself"
SERVER = """
import os, subprocess, sys
from services.processes.own_process import forbid_inspection, hide_environment
for _ in range(2):
    hide_environment("CLINVK_")
forbid_inspection()
print(os.environ["CLINVK_API_KEY"], subprocess.run(["env"], capture_output=True, text=True).stdout.count("CLINVK_API_KEY="), flush=True)
sys.stdin.read()
"""
TRACE = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), 0, 0) != 0)"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/PID/environ")


@pytest.fixture(params=USERS)
def who(request: pytest.FixtureRequest) -> dict[str, Any]:
    return started_as(request.param)


@pytest.fixture
def server(who: dict[str, Any]) -> Iterator[int]:
    env = {
        "FIRST": "1",
        "CLINVK_API_KEY": SECRET,
        "PATH": os.environ["PATH"],
        "CLINVK_SESSION__DATABASE_URL": f"//user:{SECRET}@host",
        "LAST": "2",
    }
    command = [PYTHON, "-B", "-c", SERVER]
    with subprocess.Popen(command, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **who) as process:
        assert process.stdout
        assert process.stdout.readline().split() == [SECRET, "1"], "it has the variable itself, and so has what it starts"
        yield process.pid


def attack(command: list[str], who: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, cwd="/", check=False, timeout=60, **who)


def test_the_server_s_variables_are_not_in_proc(server: int, who: dict[str, Any]) -> None:
    """Read by the tests' own user, who may be root: what is not there, nobody reads."""
    found = attack(["cat", f"/proc/{server}/environ"], {})
    assert SECRET.encode() not in found.stdout
    assert found.returncode or {b"FIRST=1", b"LAST=2"} <= set(found.stdout.split(b"\0"))


def test_an_ordinary_user_can_neither_read_nor_trace_it(server: int, who: dict[str, Any]) -> None:
    if not who and os.getuid() == 0:
        pytest.skip("root may look at every process")
    for file in ("environ", "maps", "mem", "fd/0"):
        assert attack(["cat", f"/proc/{server}/{file}"], who).returncode != 0, file
    assert attack([PYTHON, "-c", TRACE, str(server)], who).returncode != 0


def test_what_has_no_such_protection_can_be_read_and_traced(who: dict[str, Any]) -> None:
    with subprocess.Popen(["sleep", "600"], env={"CLINVK_API_KEY": SECRET}, cwd="/", **who) as process:
        assert SECRET.encode() in attack(["cat", f"/proc/{process.pid}/environ"], who).stdout
        assert attack([PYTHON, "-c", TRACE, str(process.pid)], who).returncode == 0
        process.kill()
