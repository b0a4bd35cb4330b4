"""The real CLIs, called by hand and through a server: one prompt, timed to its first token and to its end."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.parts.clis import NO_WAY_OUT, RealCli, cli_path
from tests.parts.model_api import tokens
from tests.parts.server import Server

PROMPT = "bench this"
FIRST = tokens(1)[0]

COMMANDS = {
    "claude": ["claude", "-p", "--output-format=stream-json", "--verbose", "--include-partial-messages"],
    # Says whole messages only: its first token is its whole answer, which the fake API gives at once.
    "codex": ["codex", "exec", "--json", "--skip-git-repo-check"],
    "gemini": ["gemini", "--output-format=stream-json", "--skip-trust"],
}
ONCE = {"claude": ["--no-session-persistence"], "codex": ["--ephemeral", "-"], "gemini": []}
FIRST_TURN: dict[str, list[str]] = {"claude": [], "codex": ["-"], "gemini": []}
NEXT_TURN = {"claude": ["--resume={}"], "codex": ["resume", "{}", "-"], "gemini": ["--resume={}"]}
SESSION_ID = ("session_id", "thread_id")

Times = tuple[float, float]
"""Seconds to the first token, and to the end."""


@dataclass
class Bare:
    """The CLI called by hand."""

    cli: RealCli
    workdir: Path
    session_id: str = ""

    def run(self, more: list[str]) -> Times:
        argv = [*COMMANDS[self.cli.name], *([f"--model={self.cli.model}"] if self.cli.name != "codex" else []), *more]
        env = {"PATH": cli_path(), "HOME": str(self.workdir), **NO_WAY_OUT, **self.cli.env}
        start = time.perf_counter()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(argv, **pipes, env=env, cwd=self.workdir, start_new_session=True)
        assert process.stdin
        assert process.stdout
        process.stdin.write(PROMPT.encode())
        process.stdin.close()
        first, said = 0.0, []
        for line in process.stdout:
            # Gemini echoes the prompt, in a line of the user's.
            if not first and FIRST.encode() in line and b'"user"' not in line:
                first = time.perf_counter() - start
            said.append(line)
        assert process.stderr
        complaint = process.stderr.read()
        assert process.wait() == 0, complaint
        assert first, b"".join(said)
        end = time.perf_counter() - start
        self.session_id = self.session_id or _session_id(said)
        return first, end

    def first_turn(self) -> Times:
        return self.run(FIRST_TURN[self.cli.name])

    def once(self) -> Times:
        return self.run(ONCE[self.cli.name])

    def next_turn(self) -> Times:
        return self.run([part.replace("{}", self.session_id) for part in NEXT_TURN[self.cli.name]])


def _session_id(said: list[bytes]) -> str:
    told = (json.loads(line) for line in said if line.startswith(b"{"))
    return next((line[name] for line in told for name in SESSION_ID if name in line), "")


@dataclass
class Served:
    """The CLI through a server."""

    server: Server
    name: str
    session_id: str = ""

    def run(self, path: str, body: Mapping[str, object]) -> Times:
        start = time.perf_counter()
        first, last = 0.0, {}
        with self.server.client.open("POST", path, {"prompt": PROMPT, "output_format": "stream-json", **body}) as stream:
            for arrival in stream.lines():
                last = arrival.json
                if not first and last["type"] == "message":
                    first = time.perf_counter() - start
        end = time.perf_counter() - start
        assert last.get("type") == "done", last
        self.session_id = self.session_id or last.get("session_id") or ""
        return first, end

    def first_turn(self) -> Times:
        return self.run("/api/v1/prompt", {"backend": self.name})

    def once(self) -> Times:
        return self.run("/api/v1/prompt", {"backend": self.name, "ephemeral": True})

    def next_turn(self) -> Times:
        return self.run(f"/api/v1/sessions/{self.session_id}/resume", {})

    @property
    def warm_runs(self) -> int:
        """How many runs went on in a process that was there."""
        log = self.server.log()
        return log.count(f"{self.name}: a run is warm") + log.count(f"{self.name}: a session goes on")


@contextmanager
def two_servers(cli: RealCli, folder: Path) -> Iterator[dict[str, Served]]:
    served: dict[str, Served] = {}
    env = {**cli.env, **NO_WAY_OUT, "PATH": cli_path()}
    try:
        for way, warm in (("cold", {"max": 0}), ("warm", {"min": 1, "max": 2})):
            (folder / way).mkdir()
            config = {"backends": {cli.name: cli.backend | {"warm": warm}}, "server": {"log_level": "debug"}}
            served[way] = Served(Server(folder / way, config, env), cli.name)
        yield served
    finally:
        for one in served.values():
            one.server.stop()
