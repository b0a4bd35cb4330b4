"""The database of a process: its engine, and read and write transactions. Independent of the tables.

SQLite runs inline in the event loop (0.1 to 0.3 ms a call, also at a million rows): a transaction never yields, so no other
greenlet sees partial changes; in gevent's thread pool SQLAlchemy hung. psycopg 3 waits with gevent's patched ``select``
(its C loop would block the whole worker), so PostgreSQL yields while it waits.
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
from sqlalchemy.pool import StaticPool

from services.errors import StoreUnavailable
from services.store.database_file import DatabaseFile

T = TypeVar("T")

FILE_NAME = "sessions.db"
LOCK_TIMEOUT_S = 10.0
"""How long a write waits for that of another process."""
SQLITE_WAIT_MS = 20
"""How much of that SQLite waits itself, which blocks the event loop; the rest is a gevent sleep, which does not."""
FIRST_SLEEP_S, LONGEST_SLEEP_S = 0.002, 0.1

PRAGMAS = (
    "foreign_keys=ON",
    # A commit is with the kernel when it returns: it survives kill -9. A power failure may lose the last commits but not the file.
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
    """``database_url``, or by default a SQLite file in ``home``. Raises ValueError."""
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
    """Opened on first use in each process: connections must not be shared across a fork.

    ``prepare`` is called once per process, before any other use. ``sqlite://`` is a database in memory on one connection: it ends
    with `close`, and only greenlets of one thread may share it. It is for tests; no setting can choose it.
    """

    def __init__(self, url: URL, prepare: Callable[[Database], None]) -> None:
        self.url = url
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._path = url.database if self.is_sqlite else None
        self._prepare = prepare
        self._engine: Engine | None = None
        self._file: DatabaseFile | None = None
        self._pid = self._ready_pid = 0
        self._opening = RLock()

    def open(self) -> None:
        """Connect and prepare once per process. Raises StoreUnavailable, also if the SQLite file has been lost since."""
        if self._ready_pid == os.getpid():
            if self._file:
                self._file.check()
            return
        with self._opening:  # other greenlets wait until the database is prepared; `prepare` itself may re-enter
            if self._pid == os.getpid():
                return
            if self._path:
                _make_private_file(self._path)
            self._engine = self._create()
            self._pid = os.getpid()
            try:
                self._prepare(self)
                self._file = DatabaseFile(self._path) if self._path else None
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
        """A read-only transaction. Raises StoreUnavailable."""
        self.open()
        with _translated(self.url), self._connected() as connection, connection.begin():
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Call ``work`` in its own transaction and commit. ``work`` is retried on lock conflicts, so it must have no side
        effects outside the database. Raises StoreUnavailable."""
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
        # Tracebacks in the log must not show parameters: these hold prompts, answers and webhook secrets.
        if not self.is_sqlite:
            return create_engine(self.url, connect_args=POSTGRES_CONNECT, hide_parameters=True, **POSTGRES_POOL)
        pool = {} if self._path else {"poolclass": StaticPool}
        options = {"timeout": SQLITE_WAIT_MS / 1000, "check_same_thread": False}
        engine = create_engine(self.url, connect_args=options, hide_parameters=True, **pool)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


def _make_private_file(path: str) -> None:
    """Create the file with mode 0600: it contains prompts and answers. SQLite gives its journal files the same mode."""
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        os.chmod(path, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"the session store {path} cannot be used: {error.strerror}") from error


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:  # busy_timeout does not apply to the lock for changing the journal mode
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except Exception as error:
            if not _is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(LONGEST_SLEEP_S)


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE: a transaction that reads first and writes later cannot be retried half-way when it meets a lock.
    writes = connection.get_execution_options().get("clinvk_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _translated(url: URL) -> Iterator[None]:
    """Translate operational errors, and a file that is not a database, to StoreUnavailable. Other errors are bugs and pass."""
    try:
        yield
    except (DatabaseError, PoolTimeout) as error:
        if not isinstance(error, OperationalError | PoolTimeout) and type(error) is not DatabaseError:
            raise
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        name = url.database if url.get_backend_name() == "sqlite" else f"{url.host or 'on this machine'}/{url.database}"
        raise StoreUnavailable(f"the session store {name} cannot be used: {reason}", retry_after_s=5) from error


def _is_locked(error: BaseException | None) -> bool:
    return "database is locked" in str(error) or "database table is locked" in str(error)


# SQLSTATEs of deadlock and serialization failures: this transaction was rolled back and can be retried.
LOST_RACES = ("40P01", "40001")


def _may_try_again(error: BaseException | None) -> bool:
    return isinstance(error, DBAPIError) and (_is_locked(error) or getattr(error.orig, "sqlstate", None) in LOST_RACES)
