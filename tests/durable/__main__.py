"""`python -m tests.durable --runs 10000 --kills 20 --seed N`: a long storm of kills, with its figures."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.durable.report import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.durable", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="the same seed asks for the same runs")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--postgres", action="store_true", help="instead of SQLite")
    parser.add_argument("--folder", type=Path, help="keep logs and database in this folder, which is new")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="durable-")))
        folder.mkdir(exist_ok=True)
        report = run(folder, options.seed, runs=options.runs, kills=options.kills, workers=options.workers, uses_postgres=options.postgres)
        print(report)
        return bool(report.problems)


sys.exit(main())
