"""A real server: `clinvk serve` as a separate process with its own home and no test code inside."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .client import Client
from .processes import MARK, alive, command_line, descendants, eventually, marked, zombies

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")
LOG_TAIL_CHARS = 6_000
START_S = 60.0
STOP_S = 30.0
PORTS = range(20_000, 32_000)


def free_port() -> int:
    """For a server that is started again on the same port: not one of those that the system gives to connections: while no server listens, a client that tries again and again would
    sooner or later be given the server's own port, and connect to itself."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Server:
    """One `clinvk serve` on a free port. ``client`` is connected to it; ``pid`` is the started process."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        env: Mapping[str, str] | None = None,
        args: tuple[str, ...] = (),
        mark: str | None = None,
    ) -> None:
        """``mark``: that of an earlier server, whose processes then count as this one's."""
        self.home = folder / "home"
        self.clinvk_home = self.home / ".clinvk"
        self.clinvk_home.mkdir(parents=True)
        self.workdir = folder / "work"
        self.workdir.mkdir()
        self.log_path = folder / "server.log"
        self.mark = mark or uuid.uuid4().hex
        config_path = folder / "config.yaml"
        config_path.write_text(yaml.safe_dump(dict(config)))
        command = [sys.executable, "-m", "app.cli", "serve", "--host", "127.0.0.1", "--port", "0", "--config", str(config_path), *args]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.workdir,
                env=self._env(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self.process.pid
        try:
            self._wait_until_up()
        except BaseException:
            self.kill_everything()
            raise

    def _env(self, env: Mapping[str, str]) -> dict[str, str]:
        base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.home), "CLINVK_HOME": str(self.clinvk_home)}
        return base | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", MARK: self.mark} | dict(env)

    def _wait_until_up(self) -> None:
        found = eventually(lambda: ADDRESS.search(self.log()) or self.process.poll() is not None, START_S)
        address = ADDRESS.search(self.log())
        assert found, f"the server said no address within {START_S} s:\n{self.log()}"
        assert address, f"the server ended with code {self.process.returncode}:\n{self.log()}"
        self.url = address.group(0)
        self.client = Client(self.url)
        eventually(lambda: self.is_up() or self.process.poll() is not None, START_S)
        assert self.is_up(), f"no answer from /health within {START_S} s:\n{self.log()}"

    def is_up(self) -> bool:
        try:
            return self.client.get("/health").status == 200
        except OSError:
            return False

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def runs(self) -> list[int]:
        """Live processes of the tree except the server's own: the CLIs and their children. Excludes the server's version
        probes: on a busy machine Gemini CLI needs seconds for its version."""
        return [pid for pid in marked(self.mark) if not self.is_server(pid) and not command_line(pid).endswith(" --version")]

    def workers(self) -> list[int]:
        """Its worker processes."""
        return [pid for pid in descendants(self.pid) if self.is_server(pid) and alive(pid)]

    def own(self) -> list[int]:
        """The live processes of the server itself."""
        runs = set(self.runs())
        return [pid for pid in (self.pid, *descendants(self.pid)) if pid not in runs and alive(pid)]

    def kill_own(self) -> None:
        """Kill them all. Those that end by themselves when the server has gone may have done so."""
        for pid in self.own():
            _kill(pid)

    def is_server(self, pid: int) -> bool:
        """The server or a worker, which is forked from it and has its command line. Other attributes are readable by root only."""
        return pid == self.pid or command_line(pid) == command_line(self.pid) != ""

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, within_s: float = STOP_S) -> int:
        return self.process.wait(within_s)

    def stop(self) -> None:
        """Stop the server with SIGTERM. Raises AssertionError with the processes that are left."""
        tree = [self.pid, *descendants(self.pid)]
        unreaped: list[int] = []
        if self.process.poll() is None:
            if not eventually(lambda: not zombies(self.pid)):
                unreaped = zombies(self.pid)
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill_everything()
                raise AssertionError(f"the server did not end within {STOP_S} s of SIGTERM") from None

        def left() -> list[int]:
            return sorted({*marked(self.mark), *filter(alive, tree)})

        gone = eventually(lambda: not left())
        listing = "\n".join(f"{pid}: {command_line(pid)}" for pid in left())
        self.kill_everything()
        assert gone, f"the server has ended and left behind:\n{listing}"
        assert not unreaped, f"zombies below the server: {unreaped}"

    def kill_everything(self) -> None:
        for _ in range(3):
            for pid in {*marked(self.mark), *([self.pid, *descendants(self.pid)] if self.process.poll() is None else [])}:
                if alive(pid):
                    _kill(pid)
        self.process.wait(STOP_S)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
