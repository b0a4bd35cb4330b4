"""A server for one command: on a free port of loopback, with a key of its own, ended with the command.

`python -m app.cli.private_server` is that server: `clinvk serve`, which the system ends when its command is gone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from app.cli.client.remote import NotReachable, Remote
from services.access.key import new_secret

START_S = 60.0
STOP_S = 15.0
POLL_S = 0.02
ADDRESS = re.compile(r"listens on (http://\S+)")


@contextmanager
def private_server(config: str | None) -> Iterator[Remote]:
    """A running server of our own. Raises NotReachable with its last words when it does not start."""
    key = new_secret()
    environ = os.environ | {"CLINVK_API_KEY": key, "CLINVK_SERVER__WORKERS": "1", "CLINVK_SERVER__RATE_LIMIT_ENABLED": "false"}
    command = [sys.executable, "-m", "app.cli.private_server", str(os.getpid()), *([config] if config else [])]
    with tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C is the command's to hear, which then ends the server in order.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ, start_new_session=True)
        try:
            yield Remote(_wait_for_address(process, log.fileno()), key)
        finally:
            _end(process)


def _wait_for_address(process: subprocess.Popen[bytes], log: int) -> str:
    deadline = time.monotonic() + START_S
    while True:
        has_ended = process.poll() is not None
        output = os.pread(log, 65_536, 0).decode(errors="replace")
        if found := ADDRESS.search(output):
            return found[1]
        if has_ended or time.monotonic() > deadline:
            raise NotReachable(f"a private server could not be started:\n{output.strip()[-2_000:]}")
        time.sleep(POLL_S)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
