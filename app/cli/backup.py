"""`clinvk backup FILE`: a copy of the session store, taken while the server runs."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from urllib.parse import quote

from app.backends import database_url
from app.config.schema import Settings


class CannotBackUp(Exception):
    """The message says why and what to do instead."""


def back_up(settings: Settings, path: str) -> None:
    """Copy the SQLite file of ``settings`` to ``path``, which must not exist. Raises CannotBackUp, SettingsError."""
    url = database_url(settings)
    if url.get_backend_name() != "sqlite":
        raise CannotBackUp(f"the sessions are in PostgreSQL: use pg_dump --format=custom --file={path} and the address of the database")
    source = url.database or ""
    if not os.path.isfile(source):
        raise CannotBackUp(f"there is no session store at {source}; run this as the server's user, with its CLINVK_HOME and configuration")
    try:
        # Sessions hold prompts and answers: the copy is readable by its owner only, as the store is.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise CannotBackUp(f"{path} exists; choose another name") from None
    except OSError as error:
        raise CannotBackUp(f"{path}: {error.strerror}") from None
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{quote(source)}?mode=ro", uri=True)) as live,
            contextlib.closing(sqlite3.connect(path)) as copy,
        ):
            live.backup(copy)
    except sqlite3.Error as error:
        os.unlink(path)
        raise CannotBackUp(f"{source} cannot be copied: {error}") from None
