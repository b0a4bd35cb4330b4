"""Time to the first token and to the end of a run, through the server, cold and warm, against the bare CLI: the real CLIs, which
ask the fake model API.

    python -m bench first_token

All ways are measured in turn, each when nothing that a server starts beforehand is still starting.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.clocks import rounds, wait_until_quiet
from bench.real_runs import COMMANDS, PROMPT, Bare, Served, Times, two_servers
from bench.section import Group, Section
from tests.parts.clis import REAL_CLIS, cli_path, real_cli_in
from tests.parts.model_api import FakeModelApi, Reply, tokens

NOTE = """\
The CLIs ask a fake model API on this machine, which answers 20 tokens at once. *bare* is the CLI as a user runs it in a shell ({commands}),
*cold* a server that starts it for every run, *warm* a server with `warm: {{min: 1}}`, whose next process is ready when the request comes. The
second row of each is another turn in a session: bare with the CLI's own resume, through the server with `/sessions/<id>/resume`.
Medians of {count} interleaved rounds, in ms; the ratio is to the bare CLI's. Target for the first token: warm at most 0.2 (Claude Code),
0.5 (Codex), 0.1 (Gemini); a live session's turn at most 0.15; cold at most 5 ms more than bare."""


def keep_sessions(path: Path) -> None:
    """Gemini CLI's clean-up, at the start of any run, deletes the session that is to go on (0.61.0)."""
    settings = json.loads(path.read_text())
    settings["general"]["sessionRetention"] = {"enabled": False}
    path.write_text(json.dumps(settings))


def measure_cli(name: str, api_url: str, folder: Path, count: int) -> tuple[dict[tuple[str, str], list[Times]], dict[str, int]]:
    """(what, way) → the times of each round, and how many of the runs that could be warm were: "once", "next turn"."""
    cli = real_cli_in(folder / name, name, api_url)
    if name == "gemini":
        keep_sessions(folder / name / ".gemini" / "settings.json")
    with two_servers(cli, folder / name) as served:
        bare = Bare(cli, served["cold"].server.workdir)
        ways: dict[str, Bare | Served] = {"bare": bare, **served}
        for way in ways.values():  # makes the CLI's home, and the session to go on with
            way.first_turn()
        taken: dict[tuple[str, str], list[Times]] = {(what, way): [] for what in ("once", "next turn") for way in ways}
        warm = dict.fromkeys(("once", "next turn"), 0)
        for _ in rounds(count, 90):
            for (what, way), times in taken.items():
                for one in served.values():
                    wait_until_quiet(one.server)
                before = served["warm"].warm_runs
                run: Callable[[], Times] = ways[way].once if what == "once" else ways[way].next_turn
                times.append(run())
                warm[what] += served["warm"].warm_runs > before
    return taken, warm


def rows_of(name: str, taken: Mapping[tuple[str, str], list[Times]], warm: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    for (what, way), times in taken.items():
        bare, first = taken[what, "bare"], statistics.median(first for first, _ in times)
        total = statistics.median(total for _, total in times)
        least = min(first for first, _ in times) - min(first for first, _ in bare)
        base_first, base_total = (statistics.median(column) for column in zip(*bare, strict=True))
        told = f"{way} ({warm[what]} of {len(times)} runs in a process that waited)" if way == "warm" else way
        yield (
            name, what, told, f"{first * 1e3:.0f}", f"{first / base_first:.2f}", f"{least * 1e3:+.0f}",
            f"{total * 1e3:.0f}", f"{total / base_total:.2f}",
        )  # fmt: skip


def groups_of(name: str, taken: Mapping[tuple[str, str], list[Times]]) -> Iterator[Group]:
    for what in ("once", "next turn"):
        middle = {way: statistics.median(first for first, _ in times) * 1e3 for (told, way), times in taken.items() if told == what}
        bars = [
            (way, value, f"{value:.0f} ms" + (f", ×{value / middle['bare']:.2f}" if way != "bare" else "")) for way, value in middle.items()
        ]
        yield Group(title=f"{name}, {'one prompt' if what == 'once' else 'next turn of a session'}: ms to the first token", bars=bars)


def version(name: str) -> str:
    said = subprocess.run([name, "--version"], capture_output=True, text=True, env={"PATH": cli_path(), "HOME": "/"}, check=True).stdout
    return f"{name} {said.split()[-1] if name == 'codex' else said.split()[0]}"


def measure(*, quick: bool = False) -> Section:
    names = [name for name in REAL_CLIS if shutil.which(name, path=cli_path())]
    count = 3 if quick else 10
    api = FakeModelApi().start()
    api.script(PROMPT, Reply(text=tokens(20)))
    rows: list[tuple[str, ...]] = []
    groups: list[Group] = []
    try:
        for name in names:
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                taken, warm = measure_cli(name, api.url, Path(folder), count)
            rows += rows_of(name, taken, warm)
            groups += groups_of(name, taken)
    finally:
        api.stop()
    commands = ", ".join(f"`{' '.join(COMMANDS[name])}`" for name in names)
    return Section(
        title=f"Time to the first token: {', '.join(map(version, names))}",
        note=NOTE.format(commands=commands, count=count),
        columns=("CLI", "run", "way", "first token", "ratio", "least − bare's least", "total", "ratio"),
        rows=rows,
        groups=groups,
    )
