from __future__ import annotations

import pytest

from tests.parts.house import House
from tests.parts.house import house as house
from tests.parts.house import whole_house as whole_house


@pytest.fixture(scope="session")
def house_kind() -> type[House]:
    return House
