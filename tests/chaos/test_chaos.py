"""The short storm; the long one is `python -m tests.chaos`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from tests.chaos.report import run

REQUESTS = 160
SEED = 20_260_915


def test_every_request_gets_its_own_truth_and_nothing_is_left(tmp_path: Path) -> None:
    report = run(tmp_path, SEED, lambda asks: islice(asks, REQUESTS))
    print(report)
    assert not report.problems, "\n".join(report.problems)
    assert report.figures.total() == REQUESTS
    assert report.figures.total("answered") > REQUESTS // 5
