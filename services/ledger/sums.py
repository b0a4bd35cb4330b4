"""Sums of the ledger over a time: whole days from the sums of days, the rest from the entries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import time_ns
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Integer, Select, bindparam, case, cast, func, select
from sqlalchemy.sql.elements import ColumnElement

from services.event_loop import yield_to_others
from services.ledger.entry import DAY_US, first_id
from services.ledger.writing import SUMMED
from services.store.db import Database
from services.store.schema import usage_days, usage_runs

Group = Literal["day", "key", "backend", "model"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""In the order of the rows."""

COLUMNS: Mapping[str, str] = {"key": "owner", "backend": "backend", "model": "model"}
PART_US = 3_600_000_000
"""Of a day that does not count whole, the entries of so much time are read at once."""

DAYS = 4
"""Of the days that count whole, the sums of so many are read at once."""

Key = tuple[Any, ...]
Sums = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Times are microseconds since the epoch; ``until`` is excluded. None in a filter matches everything."""

    since: int
    until: int
    groups: tuple[Group, ...] = ("day",)
    owner: str | None = None
    backend: str | None = None
    model: str | None = None

    @property
    def filters(self) -> dict[str, str]:
        held = {"owner": self.owner, "backend": self.backend, "model": self.model}
        return {name: value for name, value in held.items() if value is not None}


def ask(database: Database, question: Question) -> dict[Key, Sums]:
    """The sums of each group, in the order of `GROUPS`. Several short transactions: what ends meanwhile may count or not."""
    found: dict[Key, Sums] = {}
    for statement, values in _statements(question):
        with database.reading() as connection:
            _merge(found, connection, statement, values, len(question.groups))
        yield_to_others()
    return dict(sorted(found.items()))


def total(sums: Mapping[Key, Sums]) -> Sums:
    return {name: sum(one[name] for one in sums.values()) for name in SUMMED}


def _merge(found: dict[Key, Sums], connection: Connection, statement: Select[Any], values: Mapping[str, Any], width: int) -> None:
    for row in connection.execute(statement, dict(values)):
        if not row.runs:  # the sum of nothing, where there is no group
            continue
        key, sums = tuple(row[:width]), row[width:]
        held = found.setdefault(key, dict.fromkeys(SUMMED, 0))
        for name, value in zip(SUMMED, sums, strict=True):
            held[name] += float(value) if name == "cost_usd" else int(value)


def _statements(question: Question) -> Iterator[tuple[Select[Any], dict[str, Any]]]:
    now = time_ns() // 1000
    if question.since > now:
        return
    # What ends from now on is not there yet, so today is a whole day.
    end = question.until if question.until < now else -(-now // DAY_US) * DAY_US
    first, last = -(-question.since // DAY_US), end // DAY_US
    for day in range(first, last, DAYS):
        yield _of_days(question), {**question.filters, "first": day, "last": min(day + DAYS, last)}
    edges = [(question.since, first * DAY_US), (last * DAY_US, end)]
    for since, until in edges if first <= last else [(question.since, end)]:  # else all of it is within one day
        for start in range(since, until, PART_US):
            stop = min(start + PART_US, until)
            yield _of_runs(question), {**question.filters, "day": start // DAY_US, "first": first_id(start), "last": first_id(stop)}


def _of_days(question: Question) -> Select[Any]:
    table = usage_days.c
    groups = [table.day if group == "day" else table[COLUMNS[group]] for group in question.groups]
    wanted = [
        table.day >= bindparam("first"),
        table.day < bindparam("last"),
        *(table[name] == bindparam(name) for name in question.filters),
    ]
    return select(*groups, *(func.sum(table[name]).label(name) for name in SUMMED)).where(*wanted).group_by(*groups)


def _of_runs(question: Question) -> Select[Any]:
    table = usage_runs.c
    day = cast(bindparam("day"), Integer)
    groups = [day if group == "day" else table[COLUMNS[group]] for group in question.groups]
    summed = [func.count() if name == "runs" else func.sum(_number(name)) for name in SUMMED]
    wanted = [table.id >= bindparam("first"), table.id < bindparam("last"), *(table[name] == bindparam(name) for name in question.filters)]
    labelled = (value.label(name) for name, value in zip(SUMMED, summed, strict=True))
    return select(*groups, *labelled).where(*wanted).group_by(*(group for group in groups if group is not day))


FLAGS = {"failures": usage_runs.c.is_failure, "fallbacks": usage_runs.c.is_fallback, "estimates": usage_runs.c.is_cost_estimated}


def _number(name: str) -> ColumnElement[Any]:
    return case((FLAGS[name], 1), else_=0) if name in FLAGS else usage_runs.c[name]
