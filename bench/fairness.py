"""How long a caller waits beside one with thousands of runs: owners that take turns, and one queue for all. A simulation over the real
run store: no time passes and nothing is executed.

    python -m bench fairness
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy.engine import URL

from bench.clocks import percentile
from bench.section import Section
from tests.parts.queue_simulation import Simulation, Submission
from tests.parts.run_stores import open_desk

CALLERS = 200
SLOTS = 16
SERVICE_S = 10.0
HEAVY = "heavy"
SIZES = (1_000, 10_000)
WINDOW_S = 300.0
"""In this time each other caller submits its runs."""
RUNS_EACH = 2
NOTE = f"""\
{CALLERS} callers on {SLOTS} slots, every run takes {SERVICE_S:g} s. One caller submits all of its runs at the start, each of the others
{RUNS_EACH} at random moments of the first {WINDOW_S:g} s. The real `RunStore` (SQLite in memory) decides who is next; time is simulated. In "one queue"
all runs have one owner, which is first-in first-out. Seconds from submission to start."""


def submissions(heavy: int, dice: random.Random) -> Iterator[Submission]:
    yield from (Submission(0.0, HEAVY) for _ in range(heavy))
    for caller in range(CALLERS - 1):
        yield from (Submission(dice.uniform(0, WINDOW_S), f"caller {caller}") for _ in range(RUNS_EACH))


def waits(heavy: int, *, is_fair: bool) -> Mapping[str, Sequence[float]]:
    desk = open_desk(URL.create("sqlite"))
    try:
        return Simulation(desk, SLOTS, SERVICE_S, is_fair).run(submissions(heavy, random.Random(1)))
    finally:
        desk.close()


def measure(*, quick: bool = False) -> Section:
    rows = []
    for heavy in SIZES[:1] if quick else SIZES:
        for name, is_fair in (("turns", True), ("one queue", False)):
            found = waits(heavy, is_fair=is_fair)
            others = [wait for caller, some in found.items() if caller != HEAVY for wait in some]
            cells = (statistics.median(others), percentile(others, 0.99), max(others), max(found[HEAVY]))
            rows.append((f"{heavy:,}", name, *(f"{cell:,.1f}" for cell in cells)))
    return Section(
        title="What a caller waits beside one with thousands of runs",
        note=NOTE,
        columns=("runs of the one", "order", "others: median", "others: p99", "others: longest", "the one: longest"),
        rows=rows,
    )
