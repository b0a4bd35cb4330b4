"""One server for all tests of this surface: the demo answers by default, `claude` is the scripted CLI, `codex` is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import anthropic
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
        return f"{self.server.url}/anthropic"

    def client(self, base: str = "", **options: object) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url + base, api_key="any", max_retries=0, **options)  # type: ignore[arg-type]

    def processes(self, about: str) -> int:
        """How many processes of the scripted CLI were given a prompt with ``about`` in it."""
        return sum(about in report["prompt"] for report in self.cli.reports())


@pytest.fixture(scope="session")
def whole_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("anthropic")
    cli = FakeCli(folder / "reports")
    plain = {"command": ["cat"], "custom": {"output": "text"}}
    backends = {"claude": cli.backend(), "codex": {"command": "no-such-program"}, "echo": plain}
    server = Server(folder, {"default_backend": "demo", "backends": backends, "server": {"keepalive_secs": 0.2}})
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
def client(house: House) -> Iterator[anthropic.Anthropic]:
    with house.client() as client:
        yield client
