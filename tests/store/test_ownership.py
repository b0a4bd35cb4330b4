"""Whose sessions a lookup finds, on every database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL

from services.access.scope import EVERYONE, Scope
from services.errors import ClinvkError, Conflict, NotFound
from services.store.records import Filter, NewTurn, Session
from services.store.rows import from_session
from services.store.sessions import SessionStore
from tests.store import version_1
from tests.store.test_conformance import conversation, ended, ids, session

ADA, BOB = Scope("ada"), Scope("bob")
NEAR, ALSO_NEAR = "aaaa0000-0000-4000-8000-000000000001", "aaaa0000-0000-4000-8000-000000000002"


def refusal(store: SessionStore, id: str, scope: Scope) -> tuple[type[ClinvkError], str]:
    with pytest.raises(NotFound) as refused:
        store.get(id, scope)
    return type(refused.value), refused.value.message.replace(id, "ID")


def test_another_owners_session_is_an_unknown_one(store: SessionStore) -> None:
    one = conversation(store, owner="ada")
    assert store.get(one.id, ADA) == store.get(one.id[:8], ADA) == store.get(one.id, EVERYONE) == one
    for given in (one.id, one.id[:8], one.id.upper()):
        assert refusal(store, given, BOB) == refusal(store, "f" * len(given), BOB)


def test_prefixes_are_resolved_among_ones_own(store: SessionStore) -> None:
    store.add(session(id=NEAR, owner="ada"))
    store.add(session(id=ALSO_NEAR, owner="bob"))
    assert (store.get("a", ADA).id, store.get("aaaa", BOB).id) == (NEAR, ALSO_NEAR)
    with pytest.raises(Conflict):
        store.get("aaaa", EVERYONE)


def test_a_whole_id_is_no_prefix(store: SessionStore) -> None:
    store.add(session(id=NEAR, owner="ada"))
    assert store.get_whole(NEAR, ADA).id == store.get_whole(NEAR, EVERYONE).id == NEAR
    for id, scope in ((NEAR[:-1], ADA), (NEAR, BOB), ("", ADA), ("a" * 36, ADA)):
        with pytest.raises(NotFound):
            store.get_whole(id, scope)


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(),
        Filter(tag="x"),
        Filter(q="same"),
        Filter(backend="claude"),
        Filter(status="idle"),
        Filter(workdir="/work"),
        Filter(q="same", tag="x", backend="claude", status="idle", workdir="/work"),
        Filter(tag="x", backend="claude"),
    ],
)
def test_a_list_has_ones_own_alone(store: SessionStore, wanted: Filter) -> None:
    made = [conversation(store, prompt="same", tags=("x",), owner=("ada", "bob")[at % 2]).id for at in range(6)]
    assert ids(store.list(wanted, ADA).sessions) == made[-2::-2]
    assert ids(store.list(wanted, BOB).sessions) == made[::-2]
    assert ids(store.list(wanted, EVERYONE).sessions) == made[::-1]
    assert store.list(wanted, Scope("eve")).sessions == ()
    others = store.list(wanted, EVERYONE, limit=1)
    assert ids(store.list(wanted, ADA, cursor=others.next_cursor).sessions) == made[-2::-2]


@pytest.mark.parametrize("wanted", [{}, {"tag": "x"}, {"q": "same"}, {"backend": "claude"}])
def test_those_who_see_everything_filter_by_owner_and_others_by_no_other(store: SessionStore, wanted: dict[str, str]) -> None:
    made = {owner: conversation(store, prompt="same", tags=("x",), owner=owner).id for owner in ("ada", "bob", "local")}
    for owner, id in made.items():
        assert ids(store.list(Filter(**wanted, owner=owner), EVERYONE).sessions) == [id]  # type: ignore[arg-type]
    assert ids(store.list(Filter(**wanted, owner="ada"), ADA).sessions) == [made["ada"]]  # type: ignore[arg-type]
    assert store.list(Filter(**wanted, owner="ada"), BOB).sessions == ()  # type: ignore[arg-type]


def test_tags_of_a_later_turn_are_the_owners(store: SessionStore) -> None:
    one = conversation(store, owner="ada")
    ended(store, store.start_turn(one, NewTurn(prompt="p")), tags=("late",))
    assert ids(store.list(Filter(tag="late"), ADA).sessions) == [one.id]
    assert store.list(Filter(tag="late"), BOB).sessions == ()


def test_sessions_of_before_ownership_are_found_by_those_who_see_everything(
    make_url: Callable[[], URL], open_store: Callable[..., SessionStore]
) -> None:
    url = make_url()
    if url.get_backend_name() == "sqlite":
        Path(url.database or "").parent.mkdir()
    engine = create_engine(url)
    old = from_session(Session(id=NEAR, owner="local", backend="claude", workdir="/work", title="unusual"))
    with engine.begin() as connection:
        version_1.create(connection)
        names = [name for name in old if name not in ("owner", "created_at", "updated_at")]
        connection.execute(
            text(f"INSERT INTO sessions ({', '.join(names)}, created_at, updated_at) VALUES (:{', :'.join(names)}, 1, 1)"), old
        )
        connection.execute(text("INSERT INTO documents (session_id, words) VALUES (:id, :words)"), {"id": NEAR, "words": "unusual"})
    engine.dispose()
    store = open_store(url=url)
    assert store.get(NEAR, EVERYONE).owner == "local"
    for wanted in (Filter(), Filter(owner="local"), Filter(q="unusual"), Filter(q="unusual", owner="local")):
        assert ids(store.list(wanted, EVERYONE).sessions) == [NEAR], wanted
        assert store.list(wanted, ADA).sessions == ()
    assert refusal(store, NEAR, ADA)
