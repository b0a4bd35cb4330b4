"""Both databases, for the tests that both must pass."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from services.store.db import to_url
from services.store.sessions import SessionStore
from tests.parts.postgres import running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    with running_postgres() as url:
        yield to_url(url, "")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database."""
    if request.param == "sqlite":
        yield to_url("", str(tmp_path / "home"))
        return
    server: URL = request.getfixturevalue("postgres")
    name = f"test_{uuid.uuid4().hex}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield server.set(database=name)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def open_store(url: URL) -> Iterator[Callable[[], SessionStore]]:
    """``open_store()`` opens another store on the same database, as another process would."""
    opened: list[SessionStore] = []

    def start(*, keeps_usage: bool = True) -> SessionStore:
        opened.append(SessionStore(url, keeps_usage=keeps_usage))
        opened[-1].open()
        return opened[-1]

    yield start
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], SessionStore]) -> SessionStore:
    return open_store()
