"""The calendar windows of budgets, in UTC. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.access.rights import Window


def window_of(at: datetime, per: Window) -> tuple[datetime, datetime]:
    """The window that ``at`` is in: its beginning, and the beginning of the next one. A week begins on Monday."""
    at = at.astimezone(UTC)
    if per == "hour":
        begin = at.replace(minute=0, second=0, microsecond=0)
        return begin, begin + timedelta(hours=1)
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match per:
        case "day":
            return day, day + timedelta(days=1)
        case "week":
            begin = day - timedelta(days=day.weekday())
            return begin, begin + timedelta(days=7)
        case "month":
            begin = day.replace(day=1)
            return begin, (begin + timedelta(days=31)).replace(day=1)
