"""The keys in the store, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.engine import URL

from app.config.schema import SessionSettings, Settings
from app.security.stored_keys import stored_keys
from services.access.access import Access
from services.access.key import now
from services.access.key_ring import KeyRing
from services.access.key_store import KEYS_LIMIT, KeyStore
from services.access.keys_in_force import KeysInForce, make_key
from services.access.rights import LOCAL, Budget, Rights
from services.errors import Conflict, InvalidRequest, KeyRevoked, NotFound, StoreUnavailable
from services.store.sessions import SessionStore
from tests.parts.keys import ring_of

ADMIN = Rights(role="admin")
RIGHTS = Rights(
    backends=("claude", "codex"),
    models=("*sonnet*",),
    workdirs=("/srv",),
    max_approval_mode="auto",
    max_sandbox_mode="workspace",
    isolation="sandbox",
    rate_limit_rps=0.5,
    rate_limit_burst=3,
    max_concurrent_runs=1,
    max_waiting_runs=0,
    weight=2.5,
    budgets=(Budget(unit="tokens", amount=1000, per="month"), Budget(unit="usd", amount=0.5, per="day")),
    may_approve=True,
)


@pytest.fixture
def keys(store: SessionStore) -> KeyStore:
    return KeyStore(store.database)


def process_of(store: SessionStore, *configured: str) -> KeysInForce:
    """The keys as another process has them."""
    found = KeysInForce(Access(), KeyStore(store.database))
    found.configure(ring_of(*configured), is_open=False, is_local=True)
    return found


def test_a_key_is_found_as_it_was_stored_and_its_secret_is_nowhere(keys: KeyStore, store: SessionStore) -> None:
    key, secret = make_key("laptop", RIGHTS, expires_at=now() + 10**12)
    keys.add(key)
    assert keys.in_force() == (key,)
    assert KeyRing(keys.in_force()).find(secret) == key
    with store.database.reading() as connection:
        (row,) = connection.execute(text("SELECT * FROM api_keys")).all()
    assert secret not in str(row)


def test_a_revoked_key_is_gone_and_its_name_stays_taken_while_something_belongs_to_it(keys: KeyStore, store: SessionStore) -> None:
    keys.add(make_key("laptop", RIGHTS)[0])
    with pytest.raises(Conflict, match="there is a key 'laptop' already"):
        keys.add(make_key("laptop", RIGHTS)[0])
    keys.note_uses({"laptop": 1})
    keys.revoke("laptop")
    assert (keys.in_force(), keys.uses()) == ((), {})
    for name in ("laptop", "nobody"):
        with pytest.raises(NotFound, match=f"there is no key '{name}'"):
            keys.revoke(name)
    with store.database.reading() as connection:
        assert connection.execute(text("SELECT digests FROM api_keys")).scalars().all() == ["[]"]
    again, _ = make_key("laptop", ADMIN)
    keys.add(again)
    assert keys.in_force() == (again,)


def test_the_latest_use_counts(keys: KeyStore) -> None:
    keys.note_uses({"a": 5, "b": 7})
    keys.note_uses({"a": 3, "b": 8})
    assert keys.uses() == {"a": 5, "b": 8}


def test_there_is_a_limit(keys: KeyStore, store: SessionStore) -> None:
    insert = text("INSERT INTO api_keys (name, digests, rights, created_at) VALUES (:name, '[]', '{}', 1)")
    store.database.write(lambda connection: connection.execute(insert, [{"name": f"k{number}"} for number in range(KEYS_LIMIT)]))
    with pytest.raises(Conflict, match=f"there are {KEYS_LIMIT} keys"):
        keys.add(make_key("one-more", RIGHTS)[0])
    keys.revoke("k1")
    keys.add(make_key("one-more", RIGHTS)[0])


def test_a_change_counts_in_another_process_after_its_next_look(store: SessionStore) -> None:
    one, other = process_of(store), process_of(store)
    gone: list[str] = []
    other.on_gone = gone.append
    assert (one.are_required, other.are_required) == (False, False)
    with pytest.raises(InvalidRequest, match="the first key must be an admin"):
        one.create("user", Rights())
    key, secret = one.create("root", ADMIN)
    assert one.find(secret) == key
    other.refresh()
    assert (other.are_required, other.find(secret)) == (True, key)
    other.refresh()
    assert {found.name: used is not None for found, used in one.listed()} == {"root": True}
    one.revoke("root")
    other.refresh()
    assert (other.are_required, other.find(secret), gone) == (False, None, ["root"])


def test_a_run_of_a_key_that_another_process_has_just_made_is_not_taken_for_a_revoked_one(store: SessionStore) -> None:
    one, other = process_of(store), process_of(store)
    assert not other.are_required
    one.create("root", ADMIN)
    other.confirm("root")
    other.confirm(LOCAL)
    one.revoke("root")
    other.refresh()
    with pytest.raises(KeyRevoked, match="the API key 'root' is not in force"):
        other.confirm("root")


def test_configured_keys_cannot_be_revoked_and_win_over_stored_ones(store: SessionStore, caplog: pytest.LogCaptureFixture) -> None:
    keys = process_of(store, "ci=any")
    with pytest.raises(Conflict, match="part of the configuration"):
        keys.revoke("ci")
    with pytest.raises(Conflict, match="there is a key 'ci' already"):
        keys.create("ci", ADMIN)
    stored, secret = make_key("ci", ADMIN)
    KeyStore(store.database).add(stored)
    keys.refresh()
    assert keys.find(secret) is None
    assert "ignored, because the configuration has others with their names: ci" in caplog.text


def test_an_expired_key_keeps_the_server_closed(store: SessionStore) -> None:
    keys = process_of(store)
    keys.create("root", ADMIN, expires_at=now() - 1)
    assert keys.are_required
    with pytest.raises(KeyRevoked):
        keys.confirm("root")


def test_what_cannot_be_read_changes_nothing(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = process_of(store)
    _, secret = known.create("root", ADMIN)
    fresh, configured = process_of(store), process_of(store, "ci=any")
    configured.tell_others()

    def fail(_: object) -> None:
        raise StoreUnavailable("it is away")

    monkeypatch.setattr(KeyStore, "in_force", fail)
    for _ in range(3):
        known.try_to_refresh()
    assert caplog.text.count("it is away") == 1
    assert (known.are_required, known.find(secret) is not None) == (True, True)
    assert fresh.are_required, "nobody is let in without a key while nothing is known"
    for keys in (fresh, configured):
        with pytest.raises(StoreUnavailable, match="cannot be read now"):
            keys.find(secret)
    assert configured.find("any")


def test_a_process_that_does_not_serve_reads_them_too(keys: KeyStore, url: URL) -> None:
    settings = Settings(session=SessionSettings(database_url=url.render_as_string(hide_password=False)))
    assert stored_keys(settings) == ()
    key, _ = make_key("laptop", RIGHTS)
    keys.add(key)
    assert stored_keys(settings) == (key,)


def test_a_database_without_tables_has_no_keys(url: URL) -> None:
    assert stored_keys(Settings(session=SessionSettings(database_url=url.render_as_string(hide_password=False)))) == ()
