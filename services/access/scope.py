"""Whose things a request may see: the one argument that every lookup of something owned takes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, true


@dataclass(frozen=True, slots=True)
class Scope:
    """Things of ``owner``; None means everybody's (an admin's view, and maintenance). A thing outside the scope does not exist for it."""

    owner: str | None

    @property
    def is_everyone(self) -> bool:
        return self.owner is None

    def includes(self, owner: str) -> bool:
        return self.owner is None or self.owner == owner

    def covers(self, column: ColumnElement[str]) -> ColumnElement[bool]:
        """The condition on an owner column."""
        return true() if self.owner is None else column == self.owner


EVERYONE = Scope(None)
"""For admins, and for work that serves no caller: retention, recovery, statistics."""
