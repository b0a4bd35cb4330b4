"""The limit of open files, tried on a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import resource, sys
from app.server.open_files import limit_at_start, raise_limit
from app.config.schema import ServerSettings
print(raise_limit(ServerSettings(worker_connections=300, max_concurrent_runs=10)))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], limit_at_start())
"""
NEEDED = 128 + 300 + 50


def limits(soft: int, hard: int) -> list[str]:
    script = f'ulimit -Hn {hard} && ulimit -Sn {soft} && exec "$0" -c "$1"'
    command = ["bash", "-c", f"ulimit -Sn {soft} && {script}", sys.executable, PROGRAM]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize(
    ("soft", "hard", "told", "now"),
    [
        (1024, 4096, "None", "1024 None"),
        (256, 4096, "None", f"{NEEDED} 256"),
        (256, 300, "300 open files, and 478 may be needed", "300 256"),
        (256, 256, "256 open files", "256 256"),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes_and_told_where_that_is_not_enough(soft: int, hard: int, told: str, now: str) -> None:
    said, limit = limits(soft, hard)
    assert told in said
    assert limit == now
