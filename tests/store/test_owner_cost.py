"""What the sessions of others cost an owner of a few, in steps of SQLite's virtual machine: the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from services.access.scope import EVERYONE, Scope
from services.errors import NotFound
from services.store import documents
from services.store.db import to_url
from services.store.records import Filter, Session
from services.store.rows import from_session
from services.store.schema import session_tags, sessions
from services.store.sessions import SessionStore, new_id
from services.store.tokenizer import filter_terms
from tests.parts.steps import steps_of

OTHERS, OWN = 5_000, 5
ADA = Scope("ada")


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SessionStore]:
    """The sessions of `OTHERS`, and between them `OWN` of ada."""
    folder: Path = tmp_path_factory.mktemp("crowd")
    store = SessionStore(to_url("", str(folder)))
    every = OTHERS // OWN
    made = [
        Session(
            id=new_id(),
            owner="ada" if at % every == 7 else f"key-{at % 3}",
            backend="claude",
            workdir="/work",
            tags=("x",),
            created_at=at,
            updated_at=at,
        )
        for at in range(OTHERS)
    ]

    def fill(connection: Connection) -> None:
        connection.execute(insert(sessions), [from_session(one) for one in made])
        rows = [{"session_id": one.id, "owner": one.owner, "tag": "x", "updated_at": one.updated_at} for one in made]
        connection.execute(insert(session_tags), rows)
        for one in made:
            documents.add(connection, one.id, ["same"], filter_terms(one.owner, one.backend, one.workdir))

    store.database.write(fill)
    yield store
    store.close()


def miss(store: SessionStore, prefix: str) -> None:
    with suppress(NotFound):
        store.get(prefix, Scope("nobody"))


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.list(Filter(), ADA),
        lambda store: store.list(Filter(backend="claude"), ADA),
        lambda store: store.list(Filter(status="idle"), ADA),
        lambda store: store.list(Filter(workdir="/work"), ADA),
        lambda store: store.list(Filter(backend="claude", status="idle", workdir="/work"), ADA),
        lambda store: store.list(Filter(tag="x"), ADA),
        lambda store: store.list(Filter(q="same"), ADA),
        lambda store: store.list(Filter(owner="ada"), EVERYONE),
        lambda store: store.list(Filter(owner="ada", backend="claude"), EVERYONE),
        lambda store: store.list(Filter(owner="ada", tag="x"), EVERYONE),
        lambda store: miss(store, "a"),
    ],
    ids=["all", "backend", "status", "workdir", "three filters", "tag", "search", "admin", "admin and backend", "admin and tag", "prefix"],
)
def test_others_cost_nothing(crowded: SessionStore, act: Callable[[SessionStore], object]) -> None:
    everything = steps_of(crowded.database, lambda: crowded.list(Filter(), EVERYONE, offset=OTHERS - 1))
    assert everything > OTHERS / 2
    assert steps_of(crowded.database, lambda: act(crowded)) < OTHERS / 3
    assert len(crowded.list(Filter(), ADA).sessions) == OWN
