"""Several accounts of one CLI (`like`), and which backend answers in whose place (`fallback`). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from app.config.problems import did_you_mean
from app.config.schema import BackendSettings, Settings
from services.clis.registry import BUILT_IN
from services.clis.spec import BackendSpec

OWN = ("like", "env", "pass_env", "fallback", "enabled")
"""Settings that another account of a CLI does not inherit."""


class Refused(Exception):
    """``key`` is relative to the backend's settings: empty, `.command`, `.custom.rules[0].event`."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key
        self.message = message


def account_of(settings: Settings, name: str) -> tuple[str, BackendSettings]:
    """The backend whose CLI ``name`` runs, itself unless it is ``like`` another one, and its settings in force. Raises Refused."""
    chosen = settings.backends.get(name, BackendSettings())
    if chosen.like is None:
        return name, chosen
    if name in BUILT_IN:
        raise Refused(".like", f"{name!r} is built in and cannot be an account of another CLI; choose another name")
    if chosen.custom is not None:
        raise Refused(".like", "cannot be combined with `custom`: either says which CLI it is; remove one")
    if chosen.like not in BUILT_IN and chosen.like not in settings.backends:
        raise Refused(".like", f"unknown backend {chosen.like!r}; {did_you_mean(chosen.like, [*BUILT_IN, *settings.backends])}")
    if chosen.like == name:
        raise Refused(".like", "names this backend itself; name the first account here")
    first = settings.backends.get(chosen.like, BackendSettings())
    if first.like is not None:
        raise Refused(".like", f"{chosen.like!r} is itself like {first.like!r}; name {first.like!r} here")
    merged = _inherited(chosen, first, f"backends.{name}", settings.sources)
    return chosen.like, replace(merged, claims=chosen.claims or [])  # names of models mean the first account


def _inherited(own: Any, first: Any, key: str, sources: Mapping[str, str]) -> Any:
    """``own`` with what it leaves out taken from ``first``. Tables are merged by key."""
    values = {}
    for item in fields(own):
        mine, theirs, here = getattr(own, item.name), getattr(first, item.name), f"{key}.{item.name}"
        if item.name in OWN:
            continue
        if is_dataclass(mine):
            values[item.name] = _inherited(mine, theirs, here, sources)
        elif isinstance(mine, dict) and isinstance(theirs, dict):
            values[item.name] = {**theirs, **mine}
        elif not mine and here not in sources:
            values[item.name] = theirs
    return replace(own, **values)


def chain_problems(specs: Mapping[str, BackendSpec]) -> Iterator[tuple[str, str]]:
    """Keys of settings below `backends`, each with what is wrong."""
    for name, spec in specs.items():
        for index, other in enumerate(spec.fallback):
            key = f"{name}.fallback[{index}]"
            if other not in specs:
                yield key, f"unknown backend {other!r}; {did_you_mean(other, specs)}"
            elif other in spec.fallback[:index]:
                yield key, f"{other!r} is named twice; remove one"
            elif cycle := _way_back(name, other, specs):
                yield key, f"is a cycle: {' → '.join((name, *cycle))}; a chain is not followed further, so remove one of its links"


def _way_back(goal: str, here: str, specs: Mapping[str, BackendSpec], seen: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The chains that lead from ``here`` to ``goal``; empty if none does."""
    seen = (*seen, here)
    if here == goal:
        return seen
    ways = (_way_back(goal, other, specs, seen) for other in specs[here].fallback if other in specs and other not in seen)
    return next((way for way in ways if way), ())
