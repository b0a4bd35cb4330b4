"""One storm from a server's start to its end, and what there is to say of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tests.chaos.census import SETTLE_S, Census, places_are_free, said_to_be_ready, sessions_still_running, settled, starts, take
from tests.chaos.plan import Ask, plan
from tests.chaos.setting import MAX_RUNS, MOST_PROCESSES, start_server
from tests.chaos.storm import Figures, Storm, wrongly_started
from tests.parts.clis import FakeCli
from tests.parts.processes import eventually

WARM_UP = 40
WARM_UP_SEED = 1
MAX_GROWTH_BYTES = 160 << 20
"""Of the worker's memory, from after the warm-up to the end of a storm. Runs in a shared process wait in it for their readers; measured
in five storms of 35 s on one server: 63 MiB at its start, then 148, 173, 183, 184 and no more."""

OUTCOMES = ("answered", "failed", "mixed", "refused", "left", "wrong")


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    duration_s: float
    figures: Figures
    starts: Counter[str]
    """Of the runs that have ended: cold, warm, fallback."""
    spawners: int
    """How many were replaced, because a CLI had killed or stopped one."""
    before: Census
    after: Census
    problems: list[str]

    def __str__(self) -> str:
        figures = self.figures
        rows = [
            ("", *OUTCOMES),
            *((way, *(figures.outcomes[way, outcome] for outcome in OUTCOMES)) for way in sorted({way for way, _ in figures.outcomes})),
            ("all", *map(figures.total, OUTCOMES)),
        ]
        megabytes = [f"{size / (1 << 20):.0f} MiB" for size in (self.before.rss_bytes, self.after.rss_bytes, figures.most_rss_bytes)]
        return "\n".join(
            [
                f"seed {self.seed}: {figures.total()} requests in {self.duration_s:.0f} s",
                *(f"{row[0]:17}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows),
                f"answer times: p50 {figures.percentile(50):.2f} s, p99 {figures.percentile(99):.2f} s",
                f"runs that ended, by where they ran: {', '.join(f'{count} {kind}' for kind, count in sorted(self.starts.items()))}",
                f"spawners that were killed or stopped, and replaced: {self.spawners}",
                f"the server's memory: {megabytes[0]} before, {megabytes[1]} after, at most {megabytes[2]}",
                f"left over or wrong: {len(self.problems)}",
                *self.problems,
            ]
        )


def run(folder: Path, seed: int, bound: Callable[[Iterator[Ask]], Iterator[Ask]]) -> Report:
    """A storm of the requests that ``bound`` takes of the seed's plan."""
    fake = FakeCli(folder / "reports")
    server, temp = start_server(folder, fake)
    try:
        warm_up = Storm(server).blow(islice(plan(WARM_UP_SEED), WARM_UP))
        eventually(lambda: not server.runs(), SETTLE_S)
        before = take(server, temp)
        started = starts(server)
        begun = time.monotonic()
        figures = Storm(server).blow(bound(plan(seed)))
        duration_s = time.monotonic() - begun
        after, left = settled(server, temp, before, most_runs=MOST_PROCESSES)
        began = starts(server) - started
        spawners = server.client.get("/health").json["spawner"]["replacements"]
        problems = [
            *warm_up.wrong,
            *figures.wrong,
            *wrongly_started(figures, fake, began["fallback"]),
            *left,
            *said_to_be_ready(server),
        ]
        if after.rss_bytes > before.rss_bytes + MAX_GROWTH_BYTES:
            problems.append(f"the server grew from {before.rss_bytes} to {after.rss_bytes} bytes")
        problems += sessions_still_running(server)
        if not places_are_free(server, MAX_RUNS):
            problems.append(f"not all of the {MAX_RUNS} places are free")
        problems += [line for line in server.log().splitlines() if "Traceback" in line or "unhandled" in line]
    except BaseException:
        server.kill_everything()
        raise
    try:
        server.stop()
    except AssertionError as error:
        problems.append(str(error))
    return Report(seed, duration_s, figures, began, spawners, before, after, problems)
