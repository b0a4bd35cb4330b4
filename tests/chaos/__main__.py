"""`python -m tests.chaos --minutes 20 --seed N`: a long storm, with its figures."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from tests.chaos.plan import Ask
from tests.chaos.report import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="the same seed asks the same questions")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)

    def bound(asks: Iterator[Ask]) -> Iterator[Ask]:
        deadline = time.monotonic() + options.minutes * 60
        return takewhile(lambda _: time.monotonic() < deadline, asks)

    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        report = run(Path(folder), options.seed, bound)
        print(report)
        return bool(report.problems)


sys.exit(main())
