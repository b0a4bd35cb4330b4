"""The calendar windows of budgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from services.access.rights import WINDOWS, Window
from services.quotas.windows import window_of


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("moment", "per", "begin", "end"),
    [
        (at(2026, 3, 1, 0, 0, 0), "hour", at(2026, 3, 1, 0), at(2026, 3, 1, 1)),
        (at(2026, 12, 31, 23, 59, 59), "hour", at(2026, 12, 31, 23), at(2027, 1, 1)),
        (at(2024, 2, 28, 12), "day", at(2024, 2, 28), at(2024, 2, 29)),
        (at(2026, 12, 31, 23, 59), "day", at(2026, 12, 31), at(2027, 1, 1)),
        (at(2026, 3, 2), "week", at(2026, 3, 2), at(2026, 3, 9)),  # a Monday
        (at(2026, 3, 1, 23, 59), "week", at(2026, 2, 23), at(2026, 3, 2)),  # a Sunday
        (at(2027, 1, 1), "week", at(2026, 12, 28), at(2027, 1, 4)),
        (at(2024, 2, 29, 12), "month", at(2024, 2, 1), at(2024, 3, 1)),
        (at(2026, 1, 31, 12), "month", at(2026, 1, 1), at(2026, 2, 1)),
        (at(2026, 4, 30, 23, 59, 59), "month", at(2026, 4, 1), at(2026, 5, 1)),
        (at(2026, 12, 1), "month", at(2026, 12, 1), at(2027, 1, 1)),
    ],
)
def test_a_window_is_that_of_the_calendar(moment: datetime, per: Window, begin: datetime, end: datetime) -> None:
    assert window_of(moment, per) == (begin, end)


@pytest.mark.parametrize("per", WINDOWS)
def test_windows_follow_each_other_without_a_gap(per: Window) -> None:
    moment = at(2024, 1, 31, 22, 30)
    for _ in range(100):
        begin, end = window_of(moment, per)
        assert begin <= moment < end
        assert window_of(end, per)[0] == end
        assert window_of(end - timedelta(microseconds=1), per) == (begin, end)
        moment = end


def test_windows_are_in_utc() -> None:
    east = datetime(2026, 3, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert window_of(east, "month") == (at(2026, 2, 1), at(2026, 3, 1))
