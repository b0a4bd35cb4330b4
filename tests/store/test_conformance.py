"""What a session store promises, on every database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text, update
from sqlalchemy.engine import URL

from services.access.scope import EVERYONE
from services.errors import Conflict, InvalidRequest, NotFound, StoreUnavailable
from services.store import documents, schema
from services.store.migrations import NEWEST
from services.store.records import Filter, NewTurn, Session, Turn, TurnEnd
from services.store.sessions import SessionStore, new_id
from services.usage import Usage
from tests.store import version_1

ROOT = Path(__file__).parents[2]
USAGE = Usage(100, 20, 30, 5, 7)


def session(**more: object) -> Session:
    return Session(**{"id": new_id(), "owner": "local", "backend": "claude", "workdir": "/work"} | more)  # type: ignore[arg-type]


def ended(store: SessionStore, turn: Turn, output: str = "answer", **more: object) -> None:
    end = {"status": "finished", "output": output, "duration_ms": 12, "exit_code": 0} | more
    store.end_turn(turn, TurnEnd(**end))  # type: ignore[arg-type]


def conversation(store: SessionStore, prompt: str = "question", output: str = "answer", **more: object) -> Session:
    """A session with one finished turn."""
    one = session(**more)
    ended(store, store.begin(one, NewTurn(prompt=prompt)), output)
    return store.get(one.id, EVERYONE)


def ids(found: tuple[Session, ...]) -> list[str]:
    return [one.id for one in found]


def test_a_session_is_kept_as_it_was_given(store: SessionStore) -> None:
    odd = "é漢字🙂 \u2028 '\" \\ % _"
    given = session(
        title=odd, tags=("a", odd), metadata={odd: odd}, options={"model": "sonnet", "max_turns": 3}, cli_session_id="cli", parent_id="p"
    )
    kept = store.add(given)
    assert store.get(given.id, EVERYONE) == kept
    assert (kept.title, kept.tags, kept.metadata, kept.options) == (odd, ("a", odd), {odd: odd}, {"model": "sonnet", "max_turns": 3})
    assert kept.created_at == kept.updated_at > 0


def test_no_text_breaks_the_database(store: SessionStore) -> None:
    one = conversation(store, prompt="a\0b", output="half \ud83d", title="\0", tags=("\0",), metadata={"\0": "\ud83d"})
    (turn,) = store.turns(one)
    assert (turn.prompt, turn.output, one.title, one.tags) == ("a\ufffdb", "half ?", "\ufffd", ("\ufffd",))


def test_a_list_leaves_out_what_is_too_long_for_it(store: SessionStore) -> None:
    large = {f"key {number}": "x" * 1_000 for number in range(64)}
    one = store.add(session(metadata=large, options={"system_prompt": "y" * 100_000}, title="unusual"))
    other = store.add(session(metadata={"a": "b"}, options={"max_turns": 1}))
    listed = {found.id: found for found in store.list(Filter(), EVERYONE).sessions}
    assert (listed[one.id].metadata, listed[one.id].options, listed[one.id].left_out) == ({}, {}, ("metadata", "options"))
    assert (listed[other.id].metadata, listed[other.id].options, listed[other.id].left_out) == ({"a": "b"}, {"max_turns": 1}, ())
    assert store.list(Filter(q="unusual"), EVERYONE).sessions[0].left_out == ("metadata", "options")
    assert (store.get(one.id, EVERYONE).metadata, store.get(one.id, EVERYONE).left_out) == (large, ())


def test_a_unique_prefix_finds_and_an_ambiguous_one_is_a_conflict(store: SessionStore) -> None:
    first, second, third = "aaaa0000-0000-4000-8000-000000000001", "aaaa0000-0000-4000-8000-000000000002", "aaab" + new_id()[4:]
    for id in (first, second, third):
        store.add(session(id=id))
    assert store.get("aaab", EVERYONE).id == third
    assert store.get(third[:20].upper(), EVERYONE).id == third
    assert store.get(first, EVERYONE).id == first
    with pytest.raises(Conflict, match="several sessions begin with 'aaaa'"):
        store.get("aaaa", EVERYONE)


@pytest.mark.parametrize("id", ["", "zzz", "%", "a_", "' OR 1=1 --", "a" * 37, "ffff", "\0"])
def test_an_id_that_is_none_finds_nothing(store: SessionStore, id: str) -> None:
    store.add(session(id="aaaa0000-0000-4000-8000-000000000001"))
    with pytest.raises(NotFound):
        store.get(id, EVERYONE)


def test_a_turn_is_kept_and_added_to_its_session(store: SessionStore) -> None:
    one = session()
    turn = store.begin(one, NewTurn(prompt="p1", model="m1", request_id="r1"))
    assert (store.get(one.id, EVERYONE).status, store.get(one.id, EVERYONE).turn_count) == ("running", 1)
    ended(store, turn, "o1", usage=USAGE, cost_usd=0.5, model="real-model", cli_session_id="cli-1")
    turn = store.start_turn(one, NewTurn(prompt="p2"))
    ended(store, turn, "o2", status="failed", failure="timeout", error="too slow", exit_code=None, usage=USAGE, cost_usd=0.25)
    kept = store.get(one.id, EVERYONE)
    assert (kept.status, kept.error, kept.turn_count, kept.cli_session_id) == ("failed", "too slow", 2, "cli-1")
    assert (kept.usage, kept.cost_usd, kept.model) == (Usage(200, 40, 60, 10, 14), 0.75, "real-model")
    first, second = store.turns(one)
    assert (first.prompt, first.output, first.model, first.usage, first.cost_usd, first.request_id) == (
        "p1", "o1", "real-model", USAGE, 0.5, "r1",
    )  # fmt: skip
    assert (first.status, first.exit_code, first.duration_ms) == ("finished", 0, 12)
    assert (second.number, second.status, second.failure, second.error, second.exit_code) == (2, "failed", "timeout", "too slow", None)
    assert first.started_at <= second.started_at <= kept.updated_at


def test_a_turn_that_ends_well_clears_the_error(store: SessionStore) -> None:
    one = session()
    ended(store, store.begin(one, NewTurn(prompt="p")), status="failed", error="bad")
    ended(store, store.start_turn(one, NewTurn(prompt="p")))
    assert (store.get(one.id, EVERYONE).status, store.get(one.id, EVERYONE).error) == ("idle", None)


def test_a_turn_ends_once(store: SessionStore) -> None:
    one = session()
    turn = store.begin(one, NewTurn(prompt="p"))
    for output in ("first", "second"):
        ended(store, turn, output, usage=USAGE)
    assert [turn.output for turn in store.turns(one)] == ["first"]
    assert store.get(one.id, EVERYONE).usage == USAGE


def test_token_numbers_are_not_kept_where_that_is_switched_off(open_store: Callable[..., SessionStore]) -> None:
    store = open_store(keeps_usage=False)
    one = session()
    ended(store, store.begin(one, NewTurn(prompt="p")), usage=USAGE)
    assert store.turns(one)[0].usage is None
    assert store.get(one.id, EVERYONE).usage == Usage()


def test_turns_are_read_in_pages(store: SessionStore) -> None:
    one = conversation(store)
    for _ in range(4):
        ended(store, store.start_turn(one, NewTurn(prompt="p")))
    assert [turn.number for turn in store.turns(one, limit=2)] == [1, 2]
    assert [turn.number for turn in store.turns(one, after=2, limit=2)] == [3, 4]
    with pytest.raises(NotFound):
        store.turns(session())


def test_what_a_later_turn_says_of_the_session_is_added(store: SessionStore) -> None:
    one = conversation(store, title="old", tags=("a",), metadata={"x": "1", "y": "1"})
    turn = store.start_turn(one, NewTurn(prompt="p"))
    ended(store, turn, title="new", tags=("a", "b", "b"), metadata={"y": "2"})
    kept = store.get(one.id, EVERYONE)
    assert (kept.title, kept.tags, kept.metadata) == ("new", ("a", "b"), {"x": "1", "y": "2"})
    assert ids(store.list(Filter(tag="b"), EVERYONE).sessions) == ids(store.list(Filter(q="new"), EVERYONE).sessions) == [one.id]


def test_the_second_of_two_turns_at_a_time_is_a_conflict(store: SessionStore, open_store: Callable[[], SessionStore]) -> None:
    one = session()
    turn = store.begin(one, NewTurn(prompt="p"))
    for desk in (store, open_store()):
        with pytest.raises(Conflict, match="running a turn"):
            desk.start_turn(one, NewTurn(prompt="p"))
        with pytest.raises(Conflict):
            desk.delete(one)
    ended(store, turn)
    ended(store, store.start_turn(one, NewTurn(prompt="p")))


def test_of_many_that_want_a_session_at_once_one_gets_it(open_store: Callable[[], SessionStore]) -> None:
    stores = [open_store() for _ in range(8)]
    one = conversation(stores[0])

    def claim(store: SessionStore) -> Turn | None:
        try:
            return store.start_turn(one, NewTurn(prompt="p"))
        except Conflict:
            return None

    for turn_before in range(1, 6):
        with ThreadPoolExecutor(8) as pool:
            won = [turn for turn in pool.map(claim, stores) if turn]
        assert [turn.number for turn in won] == [turn_before + 1]
        ended(stores[turn_before], won[0])


def test_a_turn_that_did_not_start_leaves_no_trace(store: SessionStore) -> None:
    one = conversation(store, title="t", tags=("a",), metadata={"x": "1"})
    store.drop_turn(store.start_turn(one, NewTurn(prompt="p")))
    assert store.get(one.id, EVERYONE) == one
    ended(store, store.start_turn(one, NewTurn(prompt="p")))
    assert [turn.number for turn in store.turns(one)] == [1, 2]


CRASHING = """
import os, sys
from services.store.db import to_url
from services.store.records import NewTurn, Session
from services.store.sessions import SessionStore
store = SessionStore(to_url(sys.argv[1], ""))
store.begin(Session(id=sys.argv[2], owner="local", backend="claude", workdir="/work"), NewTurn(prompt="p"))
sys.stdout.write("running"); sys.stdout.flush()
if len(sys.argv) < 4: os.kill(os.getpid(), 9)
sys.stdin.read()
"""


def start_server(url: URL, id: str, *more: str) -> subprocess.Popen[bytes]:
    """A process that has begun a turn: one that dies at once, or, with an argument ``more``, that lives until its stdin ends."""
    command = [sys.executable, "-c", CRASHING, url.render_as_string(hide_password=False), id, *more]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout
    assert process.stdout.read(7) == b"running"
    return process


def test_a_session_of_a_server_that_was_killed_is_free_at_the_next_start(url: URL, open_store: Callable[[], SessionStore]) -> None:
    id = new_id()
    start_server(url, id).communicate()
    store = open_store()
    one = store.get(id, EVERYONE)
    assert (one.status, one.error) == ("failed", "the server ended while this turn was running")
    assert [turn.status for turn in store.turns(one)] == ["interrupted"]
    ended(store, store.start_turn(one, NewTurn(prompt="p")))


def test_a_session_of_a_server_that_was_killed_is_freed_where_it_is_met(url: URL, store: SessionStore) -> None:
    first, second = new_id(), new_id()
    servers = [start_server(url, id, "and lives") for id in (first, second)]
    for server in servers:
        server.kill()
        server.communicate()
    assert store.get(first, EVERYONE).status == "running"
    ended(store, store.start_turn(store.get(first, EVERYONE), NewTurn(prompt="p")))
    store.delete(store.get(second, EVERYONE))


def test_a_session_of_another_server_that_lives_stays_its_own(url: URL, open_store: Callable[[], SessionStore]) -> None:
    id = new_id()
    other = start_server(url, id, "and lives")
    try:
        store = open_store()
        assert store.release_dead() == 0
        with pytest.raises(Conflict):
            store.start_turn(store.get(id, EVERYONE), NewTurn(prompt="p"))
    finally:
        other.communicate()


def test_a_server_elsewhere_is_dead_when_it_has_not_been_seen_for_long(url: URL, store: SessionStore) -> None:
    id = new_id()
    other = start_server(url, id, "and lives")
    try:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(update(schema.owners).values(place="elsewhere").where(schema.owners.c.pid == other.pid))
        assert store.release_dead() == 0
        with engine.begin() as connection:
            connection.execute(update(schema.owners).values(seen_at=schema.owners.c.seen_at - 600).where(schema.owners.c.pid == other.pid))
        engine.dispose()
        assert store.release_dead() == 1
        assert store.get(id, EVERYONE).status == "failed"
    finally:
        other.communicate()


def test_a_turn_whose_session_was_taken_away_still_keeps_its_answer_and_disturbs_nobody(store: SessionStore, url: URL) -> None:
    one = session()
    late = store.begin(one, NewTurn(prompt="late"))
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(update(schema.sessions).values(worker="somebody dead"))
    engine.dispose()
    assert store.release_dead() == 1
    running = store.start_turn(one, NewTurn(prompt="next"))
    ended(store, late, "late answer", usage=USAGE)
    assert (store.get(one.id, EVERYONE).status, store.get(one.id, EVERYONE).usage) == ("running", USAGE)
    ended(store, running)
    assert [(turn.status, turn.output) for turn in store.turns(one)] == [("finished", "late answer"), ("finished", "answer")]


def test_the_most_recently_used_session_is_listed_first(store: SessionStore) -> None:
    made = [conversation(store) for _ in range(3)]
    assert ids(store.list(Filter(), EVERYONE).sessions) == [one.id for one in reversed(made)]
    ended(store, store.start_turn(made[0], NewTurn(prompt="p")))
    assert store.list(Filter(), EVERYONE, limit=1).sessions[0].id == made[0].id


def test_filters_narrow_the_list_together(store: SessionStore) -> None:
    a = conversation(store, backend="claude", workdir="/a", tags=("x", "y"))
    b = conversation(store, backend="codex", workdir="/a", tags=("x",))
    c = session(backend="claude", workdir="/c", tags=("x",))
    running = store.begin(c, NewTurn(prompt="p"))

    def found(**wanted: str) -> list[str]:
        return ids(store.list(Filter(**wanted), EVERYONE).sessions)  # type: ignore[arg-type]

    assert found(backend="claude") == [c.id, a.id]
    assert found(status="running") == [c.id]
    assert found(tag="x") == [c.id, b.id, a.id]
    assert found(tag="y", backend="claude", workdir="/a", status="idle") == [a.id]
    assert found(workdir="/a") == [b.id, a.id]
    assert found(tag="x", status="running") == [c.id]
    assert found(tag="nobody's") == found(backend="codex", workdir="/c") == []
    ended(store, running)


@pytest.mark.parametrize("wanted", [Filter(), Filter(tag="x"), Filter(backend="claude"), Filter(q="same")])
def test_pages_hold_every_session_once(store: SessionStore, wanted: Filter) -> None:
    made = [conversation(store, prompt="the same words", tags=("x",)).id for _ in range(23)]
    by_cursor: list[str] = []
    cursor = None
    while cursor or not by_cursor:
        page = store.list(wanted, EVERYONE, limit=5, cursor=cursor)
        by_cursor += ids(page.sessions)
        cursor = page.next_cursor
    by_offset = [id for offset in range(0, 25, 5) for id in ids(store.list(wanted, EVERYONE, limit=5, offset=offset).sessions)]
    assert by_cursor == by_offset == made[::-1]
    assert store.list(wanted, EVERYONE, limit=23).next_cursor is None


@pytest.mark.parametrize("wanted", [Filter(), Filter(tag="x"), Filter(q="same")])
def test_a_session_that_is_used_meanwhile_is_not_listed_twice(store: SessionStore, wanted: Filter) -> None:
    made = [conversation(store, prompt="the same words", tags=("x",)) for _ in range(6)]
    page = store.list(wanted, EVERYONE, limit=3, cursor=None)
    ended(store, store.start_turn(made[4], NewTurn(prompt="same")))
    rest = store.list(wanted, EVERYONE, limit=3, cursor=page.next_cursor)
    assert [*ids(page.sessions), *ids(rest.sessions)] == ids(tuple(made[::-1]))


@pytest.mark.parametrize("cursor", ["x", "!!", "W10", "bnVsbA", "WyJ1cGRhdGVkIiwgMV0", "é", "WyJmb3VuZCIsIDFd" * 9])
def test_a_cursor_that_is_none_is_refused(store: SessionStore, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        store.list(Filter(), EVERYONE, cursor=cursor)
    assert caught.value.field == "cursor"


def test_search_finds_all_words_in_title_tags_prompts_and_answers(store: SessionStore) -> None:
    one = conversation(
        store, prompt="Fix the login_page of Zoë", output="I changed src/auth.py 漢字", title="Broken LOGIN", tags=("team-red",)
    )
    other = conversation(store, prompt="login", output="nothing")
    for q in ("login_page", "ZOË fix", "auth", "字漢", "broken", "red", "src/auth.py"):
        assert ids(store.list(Filter(q=q), EVERYONE).sessions) == [one.id], q
    assert ids(store.list(Filter(q="login"), EVERYONE).sessions) == [other.id, one.id]
    for q in ("fix nothing", "logi", '"', "login OR", "login & !x", "*", "login NOT fix", "'; DROP TABLE sessions"):
        assert store.list(Filter(q=q), EVERYONE).sessions == (), q
    assert ids(store.list(Filter(q="  "), EVERYONE).sessions) == [other.id, one.id]


def test_search_narrows_with_the_filters(store: SessionStore) -> None:
    a = conversation(store, prompt="same", backend="claude", tags=("x",))
    b = conversation(store, prompt="same", backend="codex", tags=("x",))
    assert ids(store.list(Filter(q="same", backend="claude"), EVERYONE).sessions) == [a.id]
    assert ids(store.list(Filter(q="same", tag="x", status="idle"), EVERYONE).sessions) == [b.id, a.id]


def test_search_lists_a_session_once_at_its_newest_match(store: SessionStore) -> None:
    made = [conversation(store, prompt="same") for _ in range(3)]
    for _ in range(200):
        ended(store, store.start_turn(made[0], NewTurn(prompt="same")))
    first = store.list(Filter(q="same"), EVERYONE, limit=2)
    assert ids(first.sessions) == [made[0].id, made[2].id]
    assert ids(store.list(Filter(q="same"), EVERYONE, limit=2, cursor=first.next_cursor).sessions) == [made[1].id]


def test_the_usage_of_all_turns_counts_those_from_before_a_fork(store: SessionStore) -> None:
    parent = session()
    ended(store, store.begin(parent, NewTurn(prompt="p")), usage=USAGE)
    fork = store.add_fork(session(parent_id=parent.id), parent)
    ended(store, store.start_turn(fork, NewTurn(prompt="p")), usage=USAGE)
    ended(store, store.start_turn(fork, NewTurn(prompt="p")))
    assert store.usage_of_turns(fork) == Usage(200, 40, 60, 10, 14)
    assert store.usage_of_turns(session()) == Usage()


@pytest.mark.parametrize("near", [1, 4, 4_096])
def test_matches_are_found_however_far_apart_they_are(store: SessionStore, near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "NEAR", near)
    monkeypatch.setattr(documents, "CHUNK", 2)
    monkeypatch.setattr(documents, "FAR_CHUNK", 3)
    made = [conversation(store, prompt="rare" if n % 3 == 0 else "often", output="all").id for n in range(24)]
    for word, wanted in (("rare", made[::3]), ("all", made), ("never", [])):
        found: list[str] = []
        cursor = None
        while cursor or not found:
            page = store.list(Filter(q=word), EVERYONE, limit=2, cursor=cursor)
            found += ids(page.sessions)
            cursor = page.next_cursor
            if not wanted:
                break
        assert found == wanted[::-1], word


def test_deleted_sessions_are_gone_everywhere(store: SessionStore) -> None:
    gone, stays = (conversation(store, prompt="same", tags=("x",)) for _ in range(2))
    store.delete(gone)
    for wanted in (Filter(), Filter(tag="x"), Filter(q="same")):
        assert ids(store.list(wanted, EVERYONE).sessions) == [stays.id]
    assert store.count() == 1
    with pytest.raises(NotFound):
        store.get(gone.id, EVERYONE)
    for act in (store.turns, store.delete, lambda one: store.start_turn(one, NewTurn(prompt="p"))):
        with pytest.raises(NotFound):
            act(gone)


def test_count_follows_what_is_made_and_deleted(store: SessionStore) -> None:
    assert store.count() == 0
    made = [store.add(session()) for _ in range(3)]
    conversation(store)
    store.delete(made[0])
    assert store.count() == 3


def test_a_fork_has_its_parent_s_turns_but_not_its_sums(store: SessionStore) -> None:
    parent = session()
    ended(store, store.begin(parent, NewTurn(prompt="p1")), "o1", usage=USAGE, cost_usd=1.0)
    fork = store.add_fork(session(parent_id=parent.id), parent)
    ended(store, store.start_turn(parent, NewTurn(prompt="parent goes on")))
    ended(store, store.start_turn(fork, NewTurn(prompt="p2")), "o2")
    assert [(turn.number, turn.prompt, turn.output, turn.is_inherited) for turn in store.turns(fork)] == [
        (1, "p1", "o1", True),
        (2, "p2", "o2", False),
    ]
    assert (store.get(fork.id, EVERYONE).usage, store.get(fork.id, EVERYONE).cost_usd, store.get(fork.id, EVERYONE).turn_count) == (
        Usage(),
        None,
        2,
    )
    store.delete(parent)
    assert len(store.turns(fork)) == 2


def test_a_session_that_runs_cannot_be_forked(store: SessionStore) -> None:
    parent = session()
    turn = store.begin(parent, NewTurn(prompt="p"))
    with pytest.raises(Conflict):
        store.add_fork(session(parent_id=parent.id), parent)
    ended(store, turn)
    with pytest.raises(NotFound):
        store.add_fork(session(), session())


def test_expired_sessions_are_told_the_oldest_first_and_running_ones_never(store: SessionStore) -> None:
    made = [conversation(store) for _ in range(3)]
    running = store.begin(session(), NewTurn(prompt="p"))
    after = store.get(made[2].id, EVERYONE).updated_at
    assert ids(store.expired(after, 10)) == [made[0].id, made[1].id]
    assert ids(store.expired(after + 10**9, 2)) == [made[0].id, made[1].id]
    assert running.session_id not in ids(store.expired(after + 10**12, 10))


def test_what_was_written_is_there_for_another_process(open_store: Callable[[], SessionStore]) -> None:
    one = conversation(open_store(), tags=("x",), options={"model": "m"})
    assert open_store().get(one.id, EVERYONE) == one


def test_many_processes_may_start_at_once(url: URL) -> None:
    script = "import sys; from services.store.db import to_url; from services.store.sessions import SessionStore as S\n"
    script += "s = S(to_url(sys.argv[1], '')); s.open(); print(s.count())"
    command = [sys.executable, "-c", script, url.render_as_string(hide_password=False)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(6)]
    assert [process.communicate()[0] for process in started] == [b"0\n"] * 6


def shape(url: URL) -> dict[str, Any]:
    """All that a database has: columns with their types, keys, indexes; SQLite's triggers and virtual tables."""
    engine = create_engine(url)
    found = inspect(engine)
    tables: dict[str, Any] = {}
    for name in found.get_table_names():
        keys = found.get_pk_constraint(name)["constrained_columns"]
        columns = [
            (
                item["name"],
                item["type"]._type_affinity,
                getattr(item["type"], "collation", None),
                item["nullable"] and item["name"] not in keys,
            )
            for item in found.get_columns(name)
        ]
        references = [(item["constrained_columns"], item["referred_table"]) for item in found.get_foreign_keys(name)]
        indexes = sorted((str(item["name"]), item["column_names"]) for item in found.get_indexes(name))
        tables[name] = {"columns": columns, "keys": keys, "references": references, "indexes": indexes}
    more = {
        "sqlite": (
            "SELECT name, sql FROM sqlite_master WHERE sql LIKE '%VIRTUAL%' OR type = 'trigger' ORDER BY name",
            "SELECT t.name, k.on_delete FROM sqlite_master t, pragma_foreign_key_list(t.name) k ORDER BY t.name",
        ),
        "postgresql": (
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname",
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY conname",
        ),
    }
    with engine.connect() as connection:
        tables["more"] = [tuple(row) for query in more[engine.dialect.name] for row in connection.execute(text(query))]
    engine.dispose()
    return tables


def test_a_database_of_version_1_gets_the_tables_of_a_new_one(make_url: Callable[[], URL], open_store: Callable[..., SessionStore]) -> None:
    old, new = make_url(), make_url()
    if old.get_backend_name() == "sqlite":
        Path(old.database or "").parent.mkdir()
    engine = create_engine(old)
    with engine.begin() as connection:
        version_1.create(connection)
    engine.dispose()
    one = conversation(open_store(url=old), tags=("x",))
    assert open_store(url=old).get(one.id, EVERYONE) == one
    open_store(url=new)
    assert shape(old) == shape(new)


def test_a_database_of_a_newer_clinvk_is_left_alone(open_store: Callable[[], SessionStore], url: URL) -> None:
    open_store()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO schema_version VALUES ({NEWEST + 1})"))
    engine.dispose()
    with pytest.raises(StoreUnavailable, match="newer clinvk"):
        open_store()


def test_concurrent_writers_lose_nothing(open_store: Callable[[], SessionStore]) -> None:
    stores = [open_store() for _ in range(4)]

    def work(store: SessionStore) -> None:
        for _ in range(20):
            one = conversation(store, tags=("x",))
            ended(store, store.start_turn(one, NewTurn(prompt="p")), usage=USAGE)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, stores))
    assert stores[0].count() == 80
    found = stores[0].list(Filter(), EVERYONE, limit=200).sessions
    assert {(one.turn_count, one.usage, one.status) for one in found} == {(2, USAGE, "idle")}
    assert json.dumps(sorted({tag for one in found for tag in one.tags})) == '["x"]'
