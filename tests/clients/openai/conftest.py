from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.parts import house as houses
from tests.parts.house import client as client
from tests.parts.house import house as house
from tests.parts.house import whole_house as whole_house


class House(houses.House):
    path = "/openai/v1"

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(**{"base_url": self.url, "api_key": "any", "max_retries": 0, **options})


@pytest.fixture(scope="session")
def house_kind() -> type[House]:
    return House
