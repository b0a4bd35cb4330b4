"""The `clinvk` command as a process, isolated from the home and working directory of the test run."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .processes import MARK
from .server import ROOT

END_S = 60.0


@dataclass(frozen=True)
class Terminal:
    process: subprocess.Popen[bytes]
    descriptor: int

    def read_to_end(self) -> str:
        shown = b""
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(self.descriptor, 65_536):
                shown += chunk
        return shown.decode()


@dataclass(frozen=True)
class Command:
    """Runs the command in ``folder``, with its home there and with ``env``. Its processes are marked with ``mark``."""

    folder: Path
    mark: str
    env: Mapping[str, str]

    def __call__(self, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._line(args), input=stdin, capture_output=True, encoding="utf-8", timeout=END_S, **self._options(env))

    def start(self, *args: str, env: Mapping[str, str] | None = None, **more: Any) -> subprocess.Popen[bytes]:
        """Start it without waiting, as the leader of its own process group, like a shell."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        return subprocess.Popen(self._line(args), process_group=0, **pipes, **self._options(env))

    def on_a_terminal(self, *args: str, env: Mapping[str, str] | None = None) -> tuple[int, str]:
        """Exit code, and the terminal output (stdout and stderr)."""
        with self.terminal(*args, env=env) as terminal:
            shown = terminal.read_to_end()
        return terminal.process.wait(END_S), shown

    @contextmanager
    def terminal(self, *args: str, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
        """The command running on a terminal."""
        ours, theirs = pty.openpty()
        process = self.start(*args, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            os.close(ours)

    def _line(self, args: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "app.cli", *args]

    def _options(self, env: Mapping[str, str] | None) -> dict[str, Any]:
        base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder), "PYTHONPATH": str(ROOT), MARK: self.mark}
        return {"cwd": self.folder, "env": base | dict(self.env) | dict(env or {})}
