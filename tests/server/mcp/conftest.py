from __future__ import annotations

import pytest

from tests.parts.house import House
from tests.parts.house import house as house
from tests.parts.house import whole_house as whole_house
from tests.parts.rpc import HANDSHAKE, NO_HEADER, STATELESS, Speaker


@pytest.fixture(scope="session")
def house_kind() -> type[House]:
    return House


@pytest.fixture(params=[STATELESS, *HANDSHAKE, NO_HEADER], ids=lambda revision: revision or "no header")
def speaker(request: pytest.FixtureRequest, house: House) -> Speaker:
    """A client of every revision."""
    return Speaker(house.server.client, request.param)


@pytest.fixture
def client(house: House) -> Speaker:
    return Speaker(house.server.client)
