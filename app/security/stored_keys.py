"""The keys of the store, for processes that do not serve: the server's parent, and commands."""

from __future__ import annotations

import os

from app.backends import database_url
from app.config.schema import Settings
from services.access.key import Key
from services.errors import StoreUnavailable


def stored_keys(settings: Settings) -> tuple[Key, ...]:
    """As far as the store can be read now; of one that does not exist yet there are none. Changes nothing. Raises SettingsError."""
    if not settings.session.database_url and not os.path.exists(os.path.join(settings.home, "sessions.db")):
        return ()  # most starts: without the imports below
    from sqlalchemy.exc import ProgrammingError

    from services.access.key_store import KeyStore
    from services.store.db import Database

    url = database_url(settings)
    if url.get_backend_name() == "sqlite" and not os.path.exists(url.database or ""):
        return ()
    database = Database(url, lambda _: None)
    try:
        return KeyStore(database).in_force()
    except (StoreUnavailable, ProgrammingError):  # without the table there is no key; what is wrong otherwise, the workers report
        return ()
    finally:
        database.close()
