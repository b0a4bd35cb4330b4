"""Time to the first token and to the end of a run, through the server, cold and warm, against the bare CLI: the real CLIs, which
ask the fake model API.

    python -m bench.warm [--runs 12] [--clis claude,codex]

All ways are measured in turn within one run, so that a neighbour's load on the machine meets all of them alike; the medians and
their ratios to the bare CLI's are printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.parts.clis import NO_WAY_OUT, RealCli, cli_path, real_cli_in
from tests.parts.model_api import FakeModelApi, Reply, tokens
from tests.parts.processes import eventually
from tests.parts.server import Server

PROMPT = "bench this"
FIRST = tokens(1)[0]
BARE = {
    "claude": ["claude", "-p", "--output-format=stream-json", "--verbose", "--include-partial-messages", "--no-session-persistence"],
    # Says whole messages only: its first token is its whole answer, which the fake API gives at once.
    "codex": ["codex", "exec", "--json", "--skip-git-repo-check", "--ephemeral", "-"],
}
"""The bare CLI, as one would call it by hand for the same answer."""
WARM_LIMITS = {"claude": {"min": 1, "max": 2}, "codex": {"min": 1, "max": 1}}

Times = tuple[float, float]
"""Seconds to the first token, and to the end."""


def bare_run(cli: RealCli, workdir: Path) -> Times:
    argv = [*BARE[cli.name], f"--model={cli.model}"] if cli.name == "claude" else BARE[cli.name]
    env = {"PATH": cli_path(), "HOME": str(workdir), **NO_WAY_OUT, **cli.env}
    start = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, cwd=workdir)
    assert process.stdin
    assert process.stdout
    process.stdin.write(PROMPT.encode())
    process.stdin.close()
    first = 0.0
    for line in process.stdout:
        if not first and FIRST.encode() in line:
            first = time.perf_counter() - start
    assert process.wait() == 0
    assert first
    return first, time.perf_counter() - start


def served_run(server: Server, name: str) -> Times:
    start = time.perf_counter()
    first = 0.0
    with server.client.prompt_stream(name, PROMPT, ephemeral=True) as stream:
        for arrival in stream.lines():
            if not first and arrival.json["type"] == "message":
                first = time.perf_counter() - start
    assert first
    return first, time.perf_counter() - start


def is_waiting(server: Server, name: str, runs: int) -> bool:
    """Whether a process waits for the next run of ``name``, after so many."""
    said = server.log().count(f"{name}: process ")
    return said >= (1 if name == "codex" else 2 + runs)


def measure(name: str, api: FakeModelApi, folder: Path, runs: int) -> dict[str, list[Times]]:
    cli = real_cli_in(folder / name, name, api.url)
    env = {**cli.env, **NO_WAY_OUT, "PATH": cli_path()}
    servers = {}
    for way, warm in (("cold", {"max": 0}), ("warm", WARM_LIMITS[name])):
        (folder / f"{name}-{way}").mkdir()
        config = {"backends": {name: cli.backend | {"warm": warm}}, "server": {"log_level": "debug"}}
        servers[way] = Server(folder / f"{name}-{way}", config, env)
    ways: dict[str, Callable[[], Times]] = {
        "bare": lambda: bare_run(cli, servers["cold"].workdir),
        "cold": lambda: served_run(servers["cold"], name),
        "warm": lambda: served_run(servers["warm"], name),
    }
    taken: dict[str, list[Times]] = {way: [] for way in ways}
    try:
        for number in range(runs + 1):
            for way, run in ways.items():
                assert eventually(lambda done=number: is_waiting(servers["warm"], name, done), 60)  # type: ignore[misc]
                times = run()
                if number:  # the first of each makes the CLI's home
                    taken[way].append(times)
                if way == "warm":
                    assert eventually(lambda done=number: is_waiting(servers["warm"], name, done + 1), 60)  # type: ignore[misc]
        assert servers["warm"].log().count(f"{name}: a run is warm") == runs + 1
    finally:
        for server in servers.values():
            server.stop()
    return taken


def report(name: str, taken: dict[str, list[Times]]) -> None:
    middle = {way: [statistics.median(column) for column in zip(*times, strict=True)] for way, times in taken.items()}
    first, total = middle["bare"]
    for way, (to_first, to_end) in middle.items():
        print(
            f"| {name} | {way} | {to_first * 1e3:.0f} | {to_first / first:.2f} | {to_end * 1e3:.0f} | {to_end / total:.2f} |"
            f" {min(t[0] for t in taken[way]) * 1e3:.0f}–{max(t[0] for t in taken[way]) * 1e3:.0f} |"
        )


def version(name: str) -> str:
    env = {"PATH": cli_path(), "HOME": os.environ["HOME"]}
    return subprocess.run([name, "--version"], capture_output=True, text=True, env=env, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--clis", default="claude,codex")
    parser.add_argument("--json", type=Path, help="where to keep every measurement")
    options = parser.parse_args()
    names = options.clis.split(",")
    api = FakeModelApi().start()
    api.script(PROMPT, Reply(text=tokens(20)))
    print(
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; {options.runs} runs a way"
    )
    print(*(f"{name}: {version(name)}" for name in names), sep="; ", end="\n\n")
    print("| CLI | way | first token ms | ratio | total ms | ratio | first token, from – to |\n|---|---|---|---|---|---|---|")
    kept = {}
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            for name in names:
                kept[name] = measure(name, api, Path(folder), options.runs)
                report(name, kept[name])
    finally:
        api.stop()
    if options.json:
        options.json.write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
