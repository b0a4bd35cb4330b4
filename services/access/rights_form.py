"""Rights as configuration, store and API write them: an object of plain values. Its values are checked before they come here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from services.access.rights import BUDGET_UNITS, Budget, Rights

LISTS = ("backends", "models", "workdirs")
"""Rights that are a list of what the key may use; None restricts nothing, and no form may have an empty one."""
PLAIN = tuple(item.name for item in fields(Rights) if item.name not in (*LISTS, "budgets"))
"""The rights whose value is the same in both forms."""


def to_rights(form: Mapping[str, Any]) -> Rights:
    """What is left out, or None, has the default of `Rights`."""
    given = {name: form[name] for name in PLAIN if form.get(name) is not None}
    given |= {name: tuple(form[name]) for name in LISTS if form.get(name)}
    return Rights(**given, budgets=tuple(map(_to_budget, _listed(form.get("budget")))))


def from_rights(rights: Rights) -> dict[str, Any]:
    plain = {name: getattr(rights, name) for name in PLAIN}
    lists = {name: list(getattr(rights, name)) or None for name in LISTS}
    return {**plain, **lists, "budget": [{budget.unit: budget.amount, "per": budget.per} for budget in rights.budgets]}


def why_no_budget(form: Mapping[str, Any]) -> str | None:
    """What is wrong with one budget, whose values are valid by themselves."""
    units = [unit for unit in BUDGET_UNITS if form.get(unit) is not None]
    if len(units) != 1:
        return f"expected one of {', '.join(BUDGET_UNITS)}, got {' and '.join(units) or 'none'}; several budgets are a list"
    return None if form.get("per") else "expected per: hour, day, week or month"


def _to_budget(form: Mapping[str, Any]) -> Budget:
    (unit,) = (unit for unit in BUDGET_UNITS if form.get(unit) is not None)
    return Budget(unit=unit, amount=float(form[unit]), per=form["per"])


def _listed(value: Any) -> Sequence[Mapping[str, Any]]:
    return [value] if isinstance(value, Mapping) else value or ()
