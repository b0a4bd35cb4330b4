"""One server for all tests of a compatible surface: the demo answers by default, `claude` is the scripted CLI, `codex` is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .clis import FakeCli
from .processes import eventually
from .server import LOG_TAIL_CHARS, Server


@dataclass(frozen=True)
class House:
    server: Server
    cli: FakeCli

    def processes(self, about: str) -> list[dict[str, Any]]:
        """What the processes of the scripted CLI tell that were given a prompt with ``about`` in it."""
        return [report for report in self.cli.reports() if about in report["prompt"]]


def open_house(folder: Path, **settings: Any) -> House:
    """Stop its server at the end. ``settings``: of the server, besides those that tests need."""
    cli = FakeCli(folder / "reports")
    backends = {
        "claude": cli.backend(env=cli.keeping),
        "codex": {"command": "no-such-program"},
        "echo": {"command": ["cat"], "custom": {"output": "text"}},
    }
    server_settings = {"keepalive_secs": 0.2, "max_queued_runs": 64, **settings}
    return House(Server(folder, {"default_backend": "demo", "backends": backends, "server": server_settings}), cli)


def visited(house: House) -> Iterator[House]:
    """The body of a fixture: its test must leave no process of a CLI behind."""
    logged = len(house.server.log())
    yield house
    gone = eventually(lambda: not house.server.runs(), 5)
    print(house.server.log()[logged:][-LOG_TAIL_CHARS:])  # pytest shows it with a test that failed
    assert gone
