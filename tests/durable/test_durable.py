"""The short storm of kills; the long one is `python -m tests.durable`."""

from __future__ import annotations

from pathlib import Path

from tests.durable.report import run

RUNS, KILLS = 200, 3
SEED = 20_261_129


def test_no_run_is_lost_or_started_twice_however_the_server_is_killed(tmp_path: Path) -> None:
    report = run(tmp_path, SEED, runs=RUNS, kills=KILLS)
    print(report)
    assert not report.problems, "\n".join(report.problems)
    assert report.lives.kills.total() == KILLS
    ends = report.found.ends
    assert sum(count for (_, end), count in ends.items() if end == "completed") > RUNS // 3
    assert sum(count for (_, end), count in ends.items() if end == "worker_lost") > 0
