from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

from tests.parts import house as houses


@dataclass(frozen=True)
class House(houses.House):
    @property
    def url(self) -> str:
        return f"{self.server.url}/openai/v1"

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": self.url, "api_key": "any", "max_retries": 0, **options})


@pytest.fixture(scope="session")
def whole_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    opened = houses.open_house(tmp_path_factory.mktemp("openai"))
    yield House(opened.server, opened.cli)
    opened.server.stop()


@pytest.fixture
def house(whole_house: House) -> Iterator[houses.House]:
    yield from houses.visited(whole_house)


@pytest.fixture
def client(house: House) -> Iterator[openai.OpenAI]:
    with house.client() as client:
        yield client
