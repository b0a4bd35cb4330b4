"""Lookups that are restricted to a scope. Each is built once with the condition on the owner and once without: SQLAlchemy takes longer
to build a statement than SQLite to execute it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, CursorResult, Select, bindparam

from services.access.scope import Scope


class ScopedLookup:
    def __init__(self, statement: Select[Any], owner: ColumnElement[str]) -> None:
        """``owner``: the column of ``statement``'s table."""
        self._of_everyone = statement
        self._of_owner = statement.where(owner == bindparam("of_owner"))

    def execute(self, connection: Connection, scope: Scope, **values: Any) -> CursorResult[Any]:
        """The rows of ``scope``. ``values``: of the statement's parameters."""
        if scope.owner is None:
            return connection.execute(self._of_everyone, values)
        return connection.execute(self._of_owner, values | {"of_owner": scope.owner})
