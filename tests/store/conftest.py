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
from tests.parts.run_stores import RunDesk, open_desk


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    with running_postgres() as url:
        yield to_url(url, "")


@pytest.fixture(params=["sqlite", "postgres"])
def make_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], URL]]:
    """Each call is another empty database."""
    if request.param == "sqlite":
        yield lambda: to_url("", str(tmp_path / uuid.uuid4().hex))
        return
    server: URL = request.getfixturevalue("postgres")
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    made: list[str] = []

    def create() -> URL:
        made.append(f"test_{uuid.uuid4().hex}")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {made[-1]}"))
        return server.set(database=made[-1])

    yield create
    with engine.connect() as connection:
        for name in made:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def url(make_url: Callable[[], URL]) -> URL:
    """An empty database."""
    return make_url()


@pytest.fixture
def open_store(url: URL) -> Iterator[Callable[..., SessionStore]]:
    """``open_store()`` opens another store on the same database, as another process would."""
    opened: list[SessionStore] = []

    def start(*, keeps_usage: bool = True, url: URL = url) -> SessionStore:
        opened.append(SessionStore(url, keeps_usage=keeps_usage))
        opened[-1].open()
        return opened[-1]

    yield start
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., SessionStore]) -> SessionStore:
    return open_store()


@pytest.fixture
def open_run_desk(url: URL) -> Iterator[Callable[..., RunDesk]]:
    """``open_run_desk()`` is another process on the same database; its options go to the event log."""
    opened: list[RunDesk] = []

    def start(**options: object) -> RunDesk:
        opened.append(open_desk(url, **options))
        return opened[-1]

    yield start
    for desk in opened:
        desk.close()


@pytest.fixture
def desk(open_run_desk: Callable[..., RunDesk]) -> RunDesk:
    return open_run_desk()
