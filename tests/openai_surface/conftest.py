"""One server for all tests of this surface: the demo answers by default, `claude` is the scripted CLI, `codex` is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.parts.clis import FakeCli
from tests.parts.processes import eventually
from tests.parts.server import LOG_TAIL_CHARS, Server


@dataclass(frozen=True)
class House:
    server: Server
    cli: FakeCli

    @property
    def url(self) -> str:
        return f"{self.server.url}/openai/v1"

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": self.url, "api_key": "any", "max_retries": 0, **options})

    def processes(self, about: str) -> list[dict[str, Any]]:
        """What the processes of the scripted CLI tell that were given a prompt with ``about`` in it."""
        return [report for report in self.cli.reports() if about in report["prompt"]]


@pytest.fixture(scope="session")
def whole_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("openai")
    cli = FakeCli(folder / "reports")
    backends = {
        "claude": cli.backend(),
        "codex": {"command": "no-such-program"},
        "echo": {"command": ["cat"], "custom": {"output": "text"}},
    }
    config = {"default_backend": "demo", "backends": backends, "server": {"keepalive_secs": 0.2, "max_queued_runs": 64}}
    server = Server(folder, config)
    yield House(server, cli)
    server.stop()


@pytest.fixture
def house(whole_house: House) -> Iterator[House]:
    """The server; the test must leave no process of a CLI behind."""
    logged = len(whole_house.server.log())
    yield whole_house
    gone = eventually(lambda: not whole_house.server.runs(), 5)
    print(whole_house.server.log()[logged:][-LOG_TAIL_CHARS:])
    assert gone


@pytest.fixture
def client(house: House) -> Iterator[openai.OpenAI]:
    with house.client() as client:
        yield client
