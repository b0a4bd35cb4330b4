"""One server for all tests of a compatible surface: the demo answers by default, `claude` is the scripted CLI, `codex` is not installed.

A surface's conftest imports the fixtures of this module, and defines ``house_kind``: the surface's own `House`, with its path and client.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from .clis import FakeCli
from .processes import eventually
from .server import LOG_TAIL_CHARS, Server


@dataclass(frozen=True)
class House:
    server: Server
    cli: FakeCli
    path: ClassVar[str] = ""
    """Path of the surface's base URL."""

    @property
    def url(self) -> str:
        return self.server.url + self.path

    def client(self) -> Any:
        """The surface's own SDK, as a context manager."""
        raise NotImplementedError

    def processes(self, about: str) -> list[dict[str, Any]]:
        """The reports of the scripted CLI's processes whose prompt contains ``about``."""
        return [report for report in self.cli.reports() if about in report["prompt"]]

    def initialized(self, about: str) -> list[dict[str, Any]]:
        """The ``initialize`` requests of the same processes; an empty one for a process that got none."""
        initialized = self.cli.initialized()
        return [initialized.get(report["pid"], {}) for report in self.processes(about)]


H = TypeVar("H", bound=House)


def open_house(folder: Path, kind: type[H], **settings: Any) -> H:
    """A server that is stopped at the end. ``settings``: additional server settings."""
    cli = FakeCli(folder / "reports")
    backends = {
        "claude": cli.backend(env=cli.keeping),
        "codex": {"command": "no-such-program"},
        "echo": {"command": ["cat"], "custom": {"output": "text"}},
    }
    server_settings = {"keepalive_secs": 0.2, "max_queued_runs": 64, **settings}
    return kind(Server(folder, {"default_backend": "demo", "backends": backends, "server": server_settings}), cli)


@pytest.fixture(scope="session")
def whole_house(house_kind: type[House], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    opened = open_house(tmp_path_factory.mktemp("house"), house_kind)
    yield opened
    opened.server.stop()


@pytest.fixture
def house(whole_house: House) -> Iterator[House]:
    """The test must leave no CLI process behind."""
    logged = len(whole_house.server.log())
    yield whole_house
    gone = eventually(lambda: not whole_house.server.runs())
    print(whole_house.server.log()[logged:][-LOG_TAIL_CHARS:])  # pytest shows it for failed tests
    assert gone


@pytest.fixture
def client(house: House) -> Iterator[Any]:
    with house.client() as client:
        yield client
