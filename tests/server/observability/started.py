"""The server, started in other ways than `clinvk serve`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.parts.client import Client
from tests.parts.processes import eventually
from tests.parts.server import ROOT


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running(tmp_path: Path, *program: str, **env: str) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """A server that `clinvk serve` does not start."""
    port = free_port()
    base = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "CLINVK_BACKEND": "demo"}
    settings = {"CLINVK_SERVER__PORT": str(port), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *(word.format(port=port) for word in program)]
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=base | settings | env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    client = Client(f"http://127.0.0.1:{port}")

    def is_up() -> bool:
        try:
            return process.poll() is not None or client.get("/health").status == 200
        except OSError:
            return False

    try:
        assert eventually(is_up), log.read_text()
        yield process, client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            print(log.read_text()[-3000:])
