"""The server of a storm: narrow limits, several callers, and a CLI of every way to be kept ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.chaos.modes import LINE_LIMIT_MB, OUTPUT_LIMIT_MB, REQUEST_TIMEOUT_S, SILENCE_LIMIT_S
from tests.parts.client import Client
from tests.parts.clis import FakeCli
from tests.parts.server import Server

MAX_RUNS = 8
MAX_QUEUED = 12
KEYS = ("alice", "bob", "carol")
WARM = {"max": 3, "live_max": 3, "max_uses": 3, "idle_secs": 1, "min_free_mb": 64}
"""Small, so that processes are replaced all the time."""
MOST_PROCESSES = MAX_RUNS + 3 * WARM["max"]
"""Those that wait included: for anybody, for a session's next turn, and Codex's."""
SHARED = WARM | {"max_uses": 25}


def config(fake: FakeCli) -> dict[str, Any]:
    return {
        "default_backend": "claude",
        "backends": {
            "claude": fake.backend("--stays", env=fake.keeping, warm=WARM),
            "codex": fake.app_server(env={"CODEX_HOME": str(fake.folder)}, warm=SHARED),
            "plain": fake.backend("--dialect=text", custom={}),
        },
        "server": {
            "api_keys": [f"{name}=key-of-{name}-0123456789" for name in KEYS],
            "max_concurrent_runs": MAX_RUNS,
            "max_queued_runs": MAX_QUEUED,
            "queue_timeout_secs": 30,
            "request_timeout_secs": REQUEST_TIMEOUT_S,
            "idle_output_timeout_secs": SILENCE_LIMIT_S,
            "line_limit_bytes": LINE_LIMIT_MB << 20,
            "max_output_bytes": OUTPUT_LIMIT_MB << 20,
            "log_format": "json",
            "metrics_enabled": True,
            "metrics_public": True,
        },
    }


def start_server(folder: Path, fake: FakeCli) -> tuple[Server, Path]:
    """The server, and the folder of its temporary files, which is nobody else's."""
    temp = folder / "tmp"
    temp.mkdir()
    server = Server(folder, config(fake), {"TMPDIR": str(temp)})
    server.client = caller(server, 0)
    return server, temp


def caller(server: Server, number: int) -> Client:
    return Client(server.url, {"Authorization": f"Bearer key-of-{KEYS[number]}-0123456789"})
