"""Limits of one run: the caller is told which one it was, nothing of the run is left, and others do not notice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.processes import eventually
from tests.parts.server import Server

MIB = 1 << 20


def shell(server: ServerFactory, **limits: int) -> Server:
    """A server whose backend `sh` runs the prompt as a shell script, with these limits."""
    backend: dict[str, Any] = {"command": ["sh"], "custom": {"output": "text"}, "run_limits": limits}
    return server({"default_backend": "sh", "backends": {"sh": backend}})


BREACHES = {
    "cpu_secs": (1, "while :; do :; done"),
    "cpu_secs of a tree": (1, "while :; do head -c 3000000 /dev/zero | sha256sum >/dev/null; done"),
    "memory_bytes": (64 * MIB, "(head -c 100000000 /dev/zero; sleep 60) | tail"),
    "memory_bytes of a tree": (64 * MIB, "for i in 1 2 3 4 5; do (head -c 20000000 /dev/zero; sleep 60) | tail & done; wait"),
    "processes": (20, "for i in $(seq 60); do setsid sleep 600 & done; wait"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_names_the_limit_and_ends_the_whole_tree(server: ServerFactory, name: str) -> None:
    most, script = BREACHES[name]
    limit = name.partition(" ")[0]
    one = shell(server, **{limit: most})
    answer = one.client.prompt("sh", f"echo begun; {script}")
    assert answer.status == 200
    assert f"more than its limit of {most} (run_limits.{limit})" in answer.json["error"]
    assert eventually(lambda: not one.runs())
    assert one.client.prompt("sh", "echo still here").json["output"].strip() == "still here"


def test_a_file_that_grows_too_large_is_told_by_the_system(server: ServerFactory) -> None:
    one = shell(server, file_bytes=MIB)
    answer = one.client.prompt("sh", 'exec head -c 9000000 /dev/zero > "$TMPDIR/big"')
    assert "run_limits.file_bytes" in answer.json["error"]
    answer = one.client.prompt("sh", 'head -c 9000000 /dev/zero > "$TMPDIR/big"; stat -c %s "$TMPDIR/big"')
    assert answer.json["output"].strip() == str(MIB)


def test_within_its_limits_a_run_is_as_ever_and_backends_tells_them(server: ServerFactory) -> None:
    limits = {"cpu_secs": 60, "memory_bytes": 512 * MIB, "processes": 50, "file_bytes": MIB}
    one = shell(server, **limits)
    answer = one.client.prompt("sh", "ulimit -t; ulimit -f; echo; env | grep -c CONFINEMENT")
    assert answer.json["output"].split() == ["60", "2048", "0"]
    told = {backend["name"]: backend["isolation"] for backend in one.client.get("/api/v1/backends").json["backends"]}
    assert told["sh"] == {"sandbox": "none", "limits": limits}
    assert told["demo"] == {"sandbox": "none", "limits": {}}


def test_the_backend_s_own_limit_goes_before_the_server_s(server: ServerFactory) -> None:
    backend = {"command": ["sh"], "custom": {"output": "text"}, "run_limits": {"cpu_secs": 50}}
    one = server({"default_backend": "sh", "backends": {"sh": backend}, "server": {"run_limits": {"cpu_secs": 7, "file_bytes": 1024}}})
    assert one.client.prompt("sh", "ulimit -t; ulimit -f").json["output"].split() == ["50", "2"]
