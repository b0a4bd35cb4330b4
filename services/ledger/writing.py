"""Statements that add to the ledger, each within a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select, text

from services.ledger.entry import Entry
from services.store.schema import COUNTS, usage_days, usage_runs

ADD = insert(usage_runs)
SUMMED = ("runs", "failures", "fallbacks", "estimates", *COUNTS, "cost_usd", "duration_ms")
"""Columns of the sums."""
KEY = ("owner", "day", "backend", "model")

# As text: SQLAlchemy's own form would load both dialects.
ADD_TO_SUMS = text(
    f"INSERT INTO usage_days ({', '.join((*KEY, *SUMMED))}) VALUES ({', '.join(f':{name}' for name in (*KEY, *SUMMED))}) "
    f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {', '.join(f'{name} = {usage_days.name}.{name} + excluded.{name}' for name in SUMMED)}"
)


def add(connection: Connection, entries: Sequence[Entry]) -> None:
    """Store ``entries``, and add them to the sums of their days."""
    connection.execute(ADD, [_to_row(entry) for entry in entries])
    connection.execute(ADD_TO_SUMS, _to_sums(entries))


def stored_among(connection: Connection, entries: Sequence[Entry]) -> set[int]:
    """The ids of those that are stored."""
    return set(connection.execute(select(usage_runs.c.id).where(usage_runs.c.id.in_([entry.id for entry in entries]))).scalars())


def _to_row(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "owner": entry.owner,
        "backend": entry.backend,
        "model": entry.model,
        "run_id": entry.run_id,
        "is_failure": entry.is_failure,
        "is_fallback": entry.is_fallback,
        **{name: getattr(entry.usage, name) for name in COUNTS},
        "cost_usd": entry.cost_usd,
        "is_cost_estimated": entry.is_cost_estimated,
        "duration_ms": entry.duration_ms,
    }


def _to_sums(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row for each day, owner, backend and model, in an order: two processes that lock the same rows do so one after the other."""
    sums: dict[tuple[str, int, str, str], dict[str, Any]] = {}
    for entry in entries:
        key = (entry.owner, entry.day, entry.backend, entry.model)
        one = sums.setdefault(key, dict(zip(KEY, key, strict=True)) | dict.fromkeys(SUMMED, 0))
        one["runs"] += 1
        one["failures"] += entry.is_failure
        one["fallbacks"] += entry.is_fallback
        one["estimates"] += entry.is_cost_estimated
        for name in COUNTS:
            one[name] += getattr(entry.usage, name)
        one["cost_usd"] += entry.cost_usd
        one["duration_ms"] += entry.duration_ms
    return [sums[key] for key in sorted(sums)]
