"""One storm of kills from the first start to the end, and what there is to say of it."""

from __future__ import annotations

import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.durable.audit import Audit, audit
from tests.durable.crowd import Crowd
from tests.durable.lives import Lives
from tests.durable.plan import FILE, plan
from tests.parts.postgres import running_postgres

MOST_RSS_BYTES = 300 << 20
"""Of one worker."""
BYTES_PER_RUN = 24 << 10
"""Of the database, with room for the log of writes, which SQLite cuts to `journal_size_limit`."""
LOG_BYTES = 64 << 20
WRONG_WORDS = ("Traceback", "traceback", "unhandled")
"""In the server's log."""
TRACEBACK_LINES = 30
LEASES_PER_KILL = 1
"""Those of dead processes are removed once an hour, and at every start."""


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    crowd: Crowd
    lives: Lives
    found: Audit
    duration_s: float
    problems: Sequence[str]

    def __str__(self) -> str:
        ends = self.found.ends
        codes = sorted({code for _, code in ends}, key=lambda code: -sum(count for (_, other), count in ends.items() if other == code))
        ways = sorted({way for way, _ in ends})
        cells = [("", *codes), *((way, *(ends[way, code] or "" for code in codes)) for way in ways)]
        cells.append(("all", *(sum(ends[way, code] for way in ways) for code in codes)))
        widths = [max(len(str(row[column])) for row in cells) + 2 for column in range(len(cells[0]))]
        lives, found = self.lives, self.found
        return "\n".join(
            [
                f"seed {self.seed}: {len(self.crowd.entries)} runs in {self.duration_s:.0f} s, kills: {_words(lives.kills)}",
                *("".join(f"{cell:<{widths[0]}}" if not column else f"{cell:>{widths[column]}}" for column, cell in enumerate(row))
                  for row in cells),
                f"from submission to the end of what its client does: p50 {_percentile(self.crowd.seconds, 50):.2f} s, "
                f"p99 {_percentile(self.crowd.seconds, 99):.2f} s",
                f"events in the logs: {found.events}; readers: {found.readers}, on {found.connections} connections; "
                f"second attempts: {found.restarted}",
                f"kill to the first answer: at most {max(lives.down_s, default=0):.1f} s; from there to the end of what was lost: "
                f"at most {max(lives.burial_s, default=0):.2f} s",
                f"rows: {', '.join(f'{count} {name}' for name, count in found.rows.items())}; files: {found.bytes / (1 << 20):.1f} MiB",
                f"a worker's memory: {lives.first_rss_bytes / (1 << 20):.0f} MiB at first, at most {lives.most_rss_bytes / (1 << 20):.0f} MiB",
                f"left over or wrong: {len(self.problems)}",
                *self.problems,
            ]
        )  # fmt: skip


def run(folder: Path, seed: int, *, runs: int, kills: int, workers: int = 1, uses_postgres: bool = False) -> Report:
    """A storm of ``runs`` runs of the seed's plan."""
    with ExitStack() as stack:
        database_url = stack.enter_context(running_postgres()) if uses_postgres else None
        starts = folder / FILE
        starts.touch()
        lives = Lives(folder, workers=workers, database_url=database_url)
        try:
            crowd = Crowd(lives, starts)
            begun = time.monotonic()
            crowd.go(plan(seed), runs, kills, random.Random(seed))
            duration_s = time.monotonic() - begun
            url = database_url.replace("postgresql:", "postgresql+psycopg:") if database_url else f"sqlite:///{lives.home}/sessions.db"
            found = audit(lives, crowd.entries, starts, url)
            problems = [*crowd.wrong, *found.wrong, *_unbounded(lives, found, runs), *_of_logs(lives)]
        except BaseException:
            lives.server.kill_everything()
            raise
        try:
            lives.server.stop()
        except AssertionError as error:
            problems.append(str(error))
        problems += [f"socket {path.name}" for path in (lives.home / "workers").iterdir()]
        problems += [f"folder {path.name}" for path in lives.temp.glob("clinvk-*")]
        return Report(seed, crowd, lives, found, duration_s, problems)


def _unbounded(lives: Lives, found: Audit, runs: int) -> Iterator[str]:
    if lives.most_rss_bytes > MOST_RSS_BYTES:
        yield f"a worker has had {lives.most_rss_bytes} bytes"
    if found.bytes > runs * BYTES_PER_RUN + LOG_BYTES:
        yield f"the database has {found.bytes} bytes"
    if found.rows["leases"] > lives.kills.total() * LEASES_PER_KILL + len(lives.server.workers()) + 1:
        yield f"{found.rows['leases']} leases after {lives.kills.total()} kills"


def _of_logs(lives: Lives) -> Iterator[str]:
    for log in (*lives.logs, lives.server.log()):
        lines = log.splitlines()
        for number, line in enumerate(lines):
            if any(word in line for word in WRONG_WORDS):
                yield "\n".join(part[:2000] for part in lines[number : number + TRACEBACK_LINES])


def _words(kills: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in kills.items()) or "none"


def _percentile(seconds: Sequence[float], share: int) -> float:
    return statistics.quantiles(seconds, n=100)[share - 1] if len(seconds) > 1 else 0.0
