"""How the databases are opened, and what is said when they cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from services.errors import StoreUnavailable
from services.store.db import to_url
from services.store.records import Session
from services.store.sessions import SessionStore, new_id

ROOT = Path(__file__).parents[2]


def add_one(store: SessionStore) -> None:
    store.add(Session(id=new_id(), owner="local", backend="claude", workdir="/work"))


@pytest.mark.parametrize(
    ("database_url", "url"),
    [
        ("", "sqlite:////home/me/.clinvk/sessions.db"),
        ("sqlite:////folder/file.db", "sqlite:////folder/file.db"),
        ("postgresql://me@db/clinvk", "postgresql+psycopg://me@db/clinvk"),
        ("postgres://me@db/clinvk", "postgresql+psycopg://me@db/clinvk"),
    ],
)
def test_the_database_that_a_setting_means(database_url: str, url: str) -> None:
    assert to_url(database_url, "/home/me/.clinvk").render_as_string() == url


@pytest.mark.parametrize(
    "database_url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "sqlite:///file.db", "nonsense", "postgresql//x"]
)
def test_a_setting_that_names_no_database_is_refused(database_url: str) -> None:
    with pytest.raises(ValueError, match="expected sqlite:"):
        to_url(database_url, "/home")


def test_nobody_else_may_read_the_sqlite_file_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SessionStore(to_url("", str(tmp_path / "home")))
        add_one(store)
    finally:
        os.umask(before)
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "home").iterdir()}
    assert files == dict.fromkeys(("sessions.db", "sessions.db-wal", "sessions.db-shm"), 0o600)
    store.close()


def test_errors_do_not_show_the_parameters_of_statements(store: SessionStore) -> None:
    given = {"secret": f"whsec_{1234}"}  # tracebacks show this line, too

    def fail(connection: Connection) -> None:
        connection.execute(text("SELECT 1 FROM nothing WHERE :secret = :secret"), given)

    with pytest.raises((StoreUnavailable, DatabaseError)) as raised:
        store.database.write(fail)
    shown = "".join(traceback.format_exception(raised.value))
    assert "FROM nothing" in shown
    assert "whsec_1234" not in shown


def test_a_file_that_is_no_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").write_text("somebody's shopping list, which is longer than a header")
    store = SessionStore(to_url("", str(tmp_path)))
    with pytest.raises(StoreUnavailable, match="not a database"):
        store.open()
    assert (tmp_path / "sessions.db").read_text().startswith("somebody's")


def replace(path: Path) -> None:
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("other").rename(path)


@pytest.mark.parametrize(
    ("lose", "what"),
    [
        (Path.unlink, "cannot be found"),
        (lambda path: path.rename(path.with_name("moved")), "cannot be found"),
        (replace, "was replaced"),
        (lambda path: path.write_text("no database"), "was overwritten"),
        (lambda path: os.truncate(path, 0), "was overwritten"),
    ],
    ids=["deleted", "moved", "replaced", "overwritten", "emptied"],
)
def test_a_file_that_is_lost_under_the_server_is_told_by_every_use(tmp_path: Path, lose: Callable[[Path], object], what: str) -> None:
    store = SessionStore(to_url("", str(tmp_path)))
    add_one(store)
    lose(tmp_path / "sessions.db")
    for use in (store.count, lambda: add_one(store)):
        with pytest.raises(StoreUnavailable, match=what):
            use()
    store.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/home"):
        SessionStore(to_url("", str(tmp_path / "file" / "home"))).open()


def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path: Path) -> None:
    store = SessionStore(to_url(f"postgresql://me:secret@/clinvk?host={tmp_path}", ""))
    with pytest.raises(StoreUnavailable) as caught:
        store.count()
    assert caught.value.code == "backend_unavailable"
    assert "secret" not in caught.value.message


def test_a_store_that_was_down_works_when_the_database_is_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("in the way")
    store = SessionStore(to_url("", str(home)))
    with pytest.raises(StoreUnavailable):
        store.count()
    home.unlink()
    assert store.count() == 0
    store.close()


def test_a_store_may_be_used_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    store = SessionStore(to_url("", str(tmp_path)))
    add_one(store)
    script = f"""
import os
from services.store.db import to_url
from services.store.records import NewTurn, Session
from services.store.sessions import SessionStore, new_id
store = SessionStore(to_url("", {str(tmp_path)!r}))
assert store.count() == 1
pid = os.fork()
store.begin(Session(id=new_id(), owner="local", backend="claude", workdir="/work"), NewTurn(prompt="p"))
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    assert store.count() == 3
store.close()
"""
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert store.count() == 3
    store.close()


COOPERATING = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from sqlalchemy import text
from services.store.db import Database, to_url
database = Database(to_url(sys.argv[1], ""), lambda database: None)
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.01)
ticker = gevent.spawn(tick)
def wait(_):
    with database.reading() as connection:
        connection.execute(text("SELECT pg_sleep(0.5)"))
gevent.joinall([gevent.spawn(wait, i) for i in range(8)], raise_error=True)
print(len(ticks) > 20)
"""


def test_waiting_for_postgresql_does_not_stop_the_event_loop(postgres: URL) -> None:
    command = [sys.executable, "-c", COOPERATING, postgres.render_as_string(hide_password=False)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("True\n", "")


OPENING = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from services.store.db import to_url
from services.store.sessions import SessionStore
store = SessionStore(to_url(sys.argv[1], ""))
jobs = [gevent.spawn(store.count) for _ in range(8)]
gevent.joinall(jobs, raise_error=True)
print([job.value for job in jobs])
store.close()
"""


def test_many_that_use_a_store_first_at_the_same_time_find_it_ready(url: URL) -> None:
    command = [sys.executable, "-c", OPENING, url.render_as_string(hide_password=False)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr) == ("[0, 0, 0, 0, 0, 0, 0, 0]\n", "")


def test_a_write_waits_for_another_process_without_stopping_the_event_loop(tmp_path: Path) -> None:
    script = f"""
from gevent import monkey
monkey.patch_all()
import gevent, sqlite3
from services.store.db import to_url
from services.store.records import NewTurn, Session
from services.store.sessions import SessionStore, new_id
store = SessionStore(to_url("", {str(tmp_path)!r}))
store.open()
other = sqlite3.connect({str(tmp_path / "sessions.db")!r}, isolation_level=None)
other.execute("BEGIN IMMEDIATE")
ticks = []
def tick():
    while len(ticks) < 20:
        ticks.append(1)
        gevent.sleep(0.01)
    other.execute("COMMIT")
ticker = gevent.spawn(tick)
store.add(Session(id=new_id(), owner="local", backend="claude", workdir="/work"))
assert len(ticks) == 20
other.close()
store.close()
"""
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
