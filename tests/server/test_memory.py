"""How much memory is left: what the system's own files say, as each version of control groups lays them out."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from services.processes.memory import free_mb, rss_mb

MIB = 1 << 20
MEMINFO = "MemTotal: 8388608 kB\nMemFree: 1024 kB\nMemAvailable: 4194304 kB\n"


def system(root: Path, files: dict[str, object]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return str(root)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4096),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": 5 * MIB}, 4096),
        ({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": 512 * MIB, "sys/fs/cgroup/memory.current": 100 * MIB}, 412),
        (  # a cache gives way
            {
                "proc/self/cgroup": "0::/",
                "sys/fs/cgroup/memory.max": 512 * MIB,
                "sys/fs/cgroup/memory.current": 500 * MIB,
                "sys/fs/cgroup/memory.stat": f"anon 1\nfile 2\ninactive_file {300 * MIB}",
            },
            312,
        ),
        (  # the limit is that of a group above: a systemd slice
            {
                "proc/self/cgroup": "0::/system.slice/clinvk.service",
                "sys/fs/cgroup/system.slice/memory.max": 2048 * MIB,
                "sys/fs/cgroup/system.slice/memory.current": 48 * MIB,
                "sys/fs/cgroup/system.slice/clinvk.service/memory.max": "max",
                "sys/fs/cgroup/system.slice/clinvk.service/memory.current": 10 * MIB,
            },
            2000,
        ),
        (  # the first version, seen from within a container: its own group is the root of what is mounted
            {
                "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 1024 * MIB,
                "sys/fs/cgroup/memory/memory.usage_in_bytes": 1000 * MIB,
                "sys/fs/cgroup/memory/memory.stat": f"inactive_file 0\ntotal_inactive_file {76 * MIB}",
            },
            100,
        ),
        (  # no limit, as the first version says it
            {
                "proc/self/cgroup": "4:memory:/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
                "sys/fs/cgroup/memory/memory.usage_in_bytes": 1000 * MIB,
            },
            4096,
        ),
    ],
)
def test_free_memory_is_the_least_that_the_machine_and_its_groups_leave(tmp_path: Path, files: dict[str, object], expected: float) -> None:
    assert free_mb(system(tmp_path, {"proc/meminfo": MEMINFO} | files)) == expected


def test_where_nobody_tells_there_is_no_bound(tmp_path: Path) -> None:
    assert free_mb(str(tmp_path)) == math.inf


def test_what_a_process_holds_is_known_while_it_is_there() -> None:
    assert rss_mb(os.getpid()) > 5
    assert rss_mb(1 << 30) == 0
