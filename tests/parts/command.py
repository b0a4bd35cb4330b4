"""The `clinvk` command as a process of its own, away from the home and the folder of whoever runs the tests."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .processes import MARK
from .server import ROOT

END_S = 60.0


@dataclass(frozen=True)
class Command:
    """How to call it: in ``folder``, with a home there, and with ``env``. Its processes are marked with ``mark``."""

    folder: Path
    mark: str
    env: Mapping[str, str]

    def __call__(self, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._line(args), input=stdin, capture_output=True, encoding="utf-8", timeout=END_S, **self._options(env))

    def start(self, *args: str, **more: Any) -> subprocess.Popen[bytes]:
        """Begin it and go on. It leads a process group of its own, as a shell would have it."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        return subprocess.Popen(self._line(args), process_group=0, **pipes, **self._options(None))

    def on_a_terminal(self, *args: str) -> tuple[int, str]:
        """Exit code, and what the terminal got of stdout and stderr."""
        ours, theirs = pty.openpty()
        process = self.start(*args, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65_536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        finally:
            os.close(ours)
        return process.wait(END_S), shown.decode()

    def _line(self, args: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "app.cli", *args]

    def _options(self, env: Mapping[str, str] | None) -> dict[str, Any]:
        base = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.folder), "PYTHONPATH": str(ROOT), MARK: self.mark}
        return {"cwd": self.folder, "env": base | dict(self.env) | dict(env or {})}
