"""What a key has used of its budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, ScalarSelect, bindparam, case, cast, func, select

from services.access.rights import Budget, BudgetUnit
from services.errors import BudgetExceeded
from services.ledger.entry import DAY_US, first_id
from services.quotas.windows import window_of
from services.store.schema import usage_days, usage_runs

UNIT_NAMES: Mapping[BudgetUnit, str] = {"usd": "US dollars", "tokens": "tokens", "runs": "runs"}

OF_DAY: Mapping[BudgetUnit, ColumnElement[Any]] = {
    "usd": usage_days.c.cost_usd,
    "tokens": usage_days.c.input_tokens - usage_days.c.cached_tokens + usage_days.c.output_tokens,
    "runs": usage_days.c.runs - usage_days.c.fallbacks,
}
OF_RUN: Mapping[BudgetUnit, ColumnElement[Any]] = {
    "usd": usage_runs.c.cost_usd,
    "tokens": usage_runs.c.input_tokens - usage_runs.c.cached_tokens + usage_runs.c.output_tokens,
    "runs": cast(case((usage_runs.c.is_fallback, 0), else_=1), Integer),
}


def sum_of(budget: Budget, name: str) -> ScalarSelect[Any]:
    """What the key ``of_owner`` has used of the budget, according to the ledger, since the time that is bound to ``name``: a day, or
    for an hour an id."""
    if budget.per == "hour":
        wanted = select(func.sum(OF_RUN[budget.unit])).where(
            usage_runs.c.owner == bindparam("of_owner"), usage_runs.c.id >= bindparam(name)
        )
    else:
        wanted = select(func.sum(OF_DAY[budget.unit])).where(
            usage_days.c.owner == bindparam("of_owner"), usage_days.c.day >= bindparam(name)
        )
    return wanted.scalar_subquery()


def beginning(budget: Budget, now: datetime) -> int:
    """The value of the time in `sum_of`."""
    begin = round(window_of(now, budget.per)[0].timestamp() * 1e6)
    return first_id(begin) if budget.per == "hour" else begin // DAY_US


def exceeded(budgets: Sequence[Budget], sums: Sequence[float | None], running: int, now: datetime) -> BudgetExceeded | None:
    """The refusal by the budget whose window ends last, among those that are used up. ``sums``: what `sum_of` found for each of
    ``budgets``; ``running``: the runs in progress that it does not have."""
    used = [float(known or 0) + (running if budget.unit == "runs" else 0) for budget, known in zip(budgets, sums, strict=True)]
    over = [(window_of(now, budget.per)[1], budget, spent) for budget, spent in zip(budgets, used, strict=True) if spent >= budget.amount]
    return _exceeded(*max(over, key=lambda item: item[0]), now) if over else None


def _exceeded(resets_at: datetime, budget: Budget, used: float, now: datetime) -> BudgetExceeded:
    until = resets_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    return BudgetExceeded(
        f"the key's budget of {budget.amount:g} {UNIT_NAMES[budget.unit]} per {budget.per} is used up; the next {budget.per} begins at {until}",
        retry_after_s=(resets_at - now).total_seconds(),
        budget=f"{budget.unit} per {budget.per}",
        unit=budget.unit,
        amount=budget.amount,
        used=round(used, 9),
        resets_at=until,
    )
