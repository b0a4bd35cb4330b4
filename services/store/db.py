"""The database of a process: its engine, its two kinds of transaction, and how it is opened. Knows no table.

SQLite runs inline in the event loop (0.1 to 0.3 ms a call, also at a million rows): a transaction never yields, so no other
greenlet sees it half done; in gevent's thread pool SQLAlchemy hung. psycopg 3 waits with the patched ``select`` where
gevent has patched it (its C loop would stop the whole worker), so PostgreSQL yields while it waits.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from services.errors import StoreUnavailable
from services.store.database_file import DatabaseFile

T = TypeVar("T")

FILE_NAME = "sessions.db"
LOCK_TIMEOUT_S = 10.0
"""How long a write waits for another process' write."""
SQLITE_WAIT_MS = 20
"""How much of that SQLite may wait by itself, which stops the event loop; the rest is slept, which does not."""
FIRST_SLEEP_S, LONGEST_SLEEP_S = 0.002, 0.1

PRAGMAS = (
    "foreign_keys=ON",
    # A commit is in the system's hands when it returns: it survives kill -9. A power cut may take the last ones, never the file.
    "synchronous=NORMAL",
    f"busy_timeout={SQLITE_WAIT_MS}",
    "cache_size=-16384",
    "temp_store=MEMORY",
    "journal_size_limit=67108864",
)

POSTGRES_POOL = {"pool_size": 5, "max_overflow": 5, "pool_timeout": 10, "pool_recycle": 1_800, "pool_pre_ping": True}
POSTGRES_CONNECT = {
    "connect_timeout": 5,
    "application_name": "clinvk",
    "options": "-c statement_timeout=15000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=30000",
}


def to_url(database_url: str, home: str) -> URL:
    """The database that the settings mean: ``database_url``, or a SQLite file in ``home``. Raises ValueError."""
    if not database_url:
        return URL.create("sqlite", database=os.path.join(home, FILE_NAME))
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise ValueError("expected sqlite:///<absolute path> or postgresql://user:password@host/database") from None
    match url.drivername.partition("+")[0]:
        case "sqlite" if url.database and os.path.isabs(url.database):
            return url.set(drivername="sqlite")
        case "postgresql" | "postgres":
            if find_spec("psycopg") is None:
                raise ValueError(f"needs psycopg, which is not installed: {sys.executable} -m pip install 'psycopg[binary]'")
            return url.set(drivername="postgresql+psycopg")
    raise ValueError("expected sqlite:///<absolute path> or postgresql://user:password@host/database")


class Database:
    """Opened when it is first used, anew in every process: a connection must not cross a fork.

    ``prepare`` is called once a process, before anything else sees the database.
    """

    def __init__(self, url: URL, prepare: Callable[[Database], None]) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._prepare = prepare
        self._engine: Engine | None = None
        self._file: DatabaseFile | None = None
        self._pid = self._ready_pid = 0
        self._opening = RLock()

    def open(self) -> None:
        """Connect and prepare, unless this process has done so. Raises StoreUnavailable, also for a SQLite file that was lost since."""
        if self._ready_pid == os.getpid():
            if self._file:
                self._file.check()
            return
        with self._opening:  # whoever comes while another prepares the database waits; what prepares it passes
            if self._pid == os.getpid():
                return
            if self.is_sqlite:
                _make_private_file(self.url.database or "")
            self._engine = self._create()
            self._pid = os.getpid()
            try:
                self._prepare(self)
                self._file = DatabaseFile(self.url.database or "") if self.is_sqlite else None
            except BaseException:
                self.close()
                raise
            self._ready_pid = self._pid

    def close(self) -> None:
        if self._engine and self._pid == os.getpid():
            self._engine.dispose()
            if self._file:
                self._file.close()
        self._file = None
        self._engine, self._pid, self._ready_pid = None, 0, 0

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises StoreUnavailable."""
        self.open()
        with _translated(self.url), self._connected() as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Do ``work`` in a transaction of its own and commit it; ``work`` may be called again where another process was
        in the way, so it has no effect but the database's. Raises StoreUnavailable."""
        self.open()
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        pause_s = FIRST_SLEEP_S
        while True:
            try:
                with _translated(self.url), self._connected() as connection:
                    connection = connection.execution_options(clinvk_writes=True)
                    with connection.begin():
                        return work(connection)
            except StoreUnavailable as error:
                if not _may_try_again(error.__cause__) or time.monotonic() > deadline:
                    raise
            time.sleep(pause_s)
            pause_s = min(LONGEST_SLEEP_S, pause_s * 2)

    def _connected(self) -> Connection:
        assert self._engine is not None, "not open"
        return self._engine.connect()

    def _create(self) -> Engine:
        if not self.is_sqlite:
            return create_engine(self.url, connect_args=POSTGRES_CONNECT, **POSTGRES_POOL)
        engine = create_engine(self.url, connect_args={"timeout": SQLITE_WAIT_MS / 1000, "check_same_thread": False})
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


def _make_private_file(path: str) -> None:
    """Prompts and answers are nobody else's business. SQLite gives its journal files the mode of the database's."""
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        os.chmod(path, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the session store {path} cannot be used: {error.strerror}") from error


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by the driver's guess
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:  # SQLite does not wait by itself for the lock that changing the journal's mode needs
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(LONGEST_SLEEP_S)


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE: a transaction that reads first and writes later could not be begun again half-way when it meets a lock.
    writes = connection.get_execution_options().get("clinvk_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    """What the database cannot do now, as our error; also that it is none. A wrong statement is a bug and stays what it is."""
    try:
        yield
    except (DatabaseError, PoolTimeout) as error:
        if not isinstance(error, OperationalError | PoolTimeout) and type(error) is not DatabaseError:
            raise
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        name = url.database if url.get_backend_name() == "sqlite" else f"{url.host or 'on this machine'}/{url.database}"
        raise StoreUnavailable(f"the session store {name} cannot be used: {said}", retry_after_s=5) from error


def _is_locked(error: BaseException | None) -> bool:
    return "database is locked" in str(error) or "database table is locked" in str(error)


# Deadlock and serialization failures, by SQLSTATE: the other transaction has won, this one has left nothing.
LOST_RACES = ("40P01", "40001")


def _may_try_again(error: BaseException | None) -> bool:
    return isinstance(error, DBAPIError) and (_is_locked(error) or getattr(error.orig, "sqlstate", None) in LOST_RACES)
