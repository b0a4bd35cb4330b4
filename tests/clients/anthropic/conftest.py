from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.parts import house as houses
from tests.parts.house import client as client
from tests.parts.house import house as house
from tests.parts.house import whole_house as whole_house


class House(houses.House):
    path = "/anthropic"

    def client(self, base: str = "", **options: Any) -> anthropic.Anthropic:
        return anthropic.Anthropic(**{"base_url": self.url + base, "api_key": "any", "max_retries": 0, **options})


@pytest.fixture(scope="session")
def house_kind() -> type[House]:
    return House
