"""The keys that were made at run time, and when each key was last used: in the database of the sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, func, select, text, update

from services.access.key import Key, now
from services.access.rights_form import from_rights, to_rights
from services.errors import Conflict, NotFound
from services.store.db import Database
from services.store.schema import api_keys, key_uses, runs, sessions

KEYS_LIMIT = 1_000
"""Every process keeps all of them in memory."""

IN_FORCE = select(api_keys).where(api_keys.c.revoked_at.is_(None)).order_by(api_keys.c.created_at, api_keys.c.name)
COUNT = select(func.count()).select_from(api_keys).where(api_keys.c.revoked_at.is_(None))

# As text: SQLAlchemy's own form would load both dialects.
NOTE_USE = text(
    "INSERT INTO key_uses (name, last_used_at) VALUES (:name, :at) ON CONFLICT (name) DO UPDATE SET last_used_at = excluded.last_used_at "
    "WHERE excluded.last_used_at > key_uses.last_used_at"
)


class KeyStore:
    """One per process. Every method is one short transaction, and raises StoreUnavailable if the database is unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: Sequence[Row[Any]] = ()
        self._keys: tuple[Key, ...] = ()

    def in_force(self) -> tuple[Key, ...]:
        """All keys that are not revoked, expired ones too. The same object as before where nothing has changed."""
        with self._database.reading() as connection:
            rows = connection.execute(IN_FORCE).all()
        if rows != self._rows:
            self._rows, self._keys = rows, tuple(map(_to_key, rows))
        return self._keys

    def add(self, key: Key) -> None:
        """Raises Conflict for a name that is taken, or was revoked while something still belongs to it, and if there are too many keys."""

        def work(connection: Connection) -> None:
            there = connection.execute(select(api_keys.c.revoked_at).where(api_keys.c.name == key.name)).first()
            if there is not None:
                _check_reuse(connection, key.name, is_revoked=there.revoked_at is not None)
                connection.execute(delete(api_keys).where(api_keys.c.name == key.name))
            if connection.execute(COUNT).scalar_one() >= KEYS_LIMIT:
                raise Conflict(f"there are {KEYS_LIMIT} keys, which is the limit; revoke those that nobody uses")
            connection.execute(api_keys.insert(), _from_key(key))

        self._database.write(work)

    def revoke(self, name: str) -> None:
        """Take a key out of force. Its name stays, without the digests, so that nobody else gets it by mistake. Raises NotFound."""
        revoked = update(api_keys).where(api_keys.c.name == name, api_keys.c.revoked_at.is_(None)).values(digests="[]", revoked_at=now())

        def work(connection: Connection) -> None:
            if not connection.execute(revoked).rowcount:
                raise NotFound(f"there is no key {name!r}")
            connection.execute(delete(key_uses).where(key_uses.c.name == name))

        self._database.write(work)

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """``uses``: name → time of the latest use."""
        rows = [{"name": name, "at": at} for name, at in uses.items()]
        self._database.write(lambda connection: connection.execute(NOTE_USE, rows))

    def uses(self) -> dict[str, int]:
        with self._database.reading() as connection:
            return {row.name: row.last_used_at for row in connection.execute(select(key_uses))}


def _check_reuse(connection: Connection, name: str, *, is_revoked: bool) -> None:
    """Raises Conflict."""
    if not is_revoked:
        raise Conflict(f"there is a key {name!r} already; choose another name, or revoke it first", field="name", issue="name is taken")
    for table, what in ((sessions, "sessions"), (runs, "runs")):
        if connection.execute(select(table.c.id).where(table.c.owner == name).limit(1)).first():
            message = f"the name {name!r} was revoked, and {what} still belong to it; choose another name, or delete them first"
            raise Conflict(message, field="name", issue=f"has {what}")


def _from_key(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        "digests": orjson.dumps([digest.hex() for digest in key.digests]).decode(),
        "rights": orjson.dumps(from_rights(key.rights)).decode(),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }


def _to_key(row: Row[Any]) -> Key:
    return Key(
        name=row.name,
        digests=tuple(map(bytes.fromhex, orjson.loads(row.digests))),
        rights=to_rights(orjson.loads(row.rights)),
        source="store",
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
