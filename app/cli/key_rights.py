"""The options of `clinvk keys create` that say what the key may do, and the rights that they mean."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

from app.config.layer import Layer
from app.config.problems import COMMAND_LINE, Problem, SettingsError
from app.config.schema import KeySettings, Settings
from app.config.validation import Path, node_at
from app.security.api_keys import known_backends
from app.security.key_entries import EntryReader
from services.access.key import IS_PAST, now
from services.access.rights import APPROVAL_ORDER, BUDGET_UNITS, ISOLATIONS, ROLES, SANDBOX_ORDER, WINDOWS, Rights
from services.access.rights_form import LISTS

OPTIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "role": ("ROLE", "an admin sees and manages everything, keys included; default user", ROLES),
    "backends": ("NAMES", "the only backends that it may use, separated by commas; the first is its default", ()),
    "models": ("PATTERNS", "the only models that it may use, separated by commas", ()),
    "workdirs": ("FOLDERS", "its workdirs must be in one of these, separated by commas; the first is the default", ()),
    "max_approval_mode": ("MODE", "the most permissive approval mode", APPROVAL_ORDER),
    "max_sandbox_mode": ("MODE", "the most permissive sandbox mode", SANDBOX_ORDER),
    "isolation": ("KIND", "the least isolation of its runs", ISOLATIONS),
    "rate_limit_rps": ("N", "sustained requests per second", ()),
    "rate_limit_burst": ("N", "maximum burst of requests", ()),
    "max_concurrent_runs": ("N", "maximum concurrent runs", ()),
    "max_waiting_runs": ("N", "maximum waiting runs; 0: none", ()),
    "weight": ("N", "share of the queue, relative to other keys; default 1", ()),
    "expires_at": ("TIME", "when it ceases to be valid, as 2099-01-31T12:00:00Z", ()),
}
"""Rights that are an option: how its value is called, what it means, and the choices."""

BUDGET = re.compile(rf"(?P<amount>[0-9.]+)(?P<unit>{'|'.join(BUDGET_UNITS)})/(?P<per>{'|'.join(WINDOWS)})")


def add_rights(parser: argparse.ArgumentParser) -> None:
    for name, (value, meaning, choices) in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=value, help=meaning + (f" ({', '.join(choices)})" if choices else ""))
    parser.add_argument(
        "--budget", action="append", metavar="AMOUNT", help="for example 5usd/day, 1000000tokens/week or 100runs/hour; may be repeated"
    )
    parser.add_argument("--may-approve", action="store_true", default=None, help="it may answer the questions of its runs")


def rights_of(args: argparse.Namespace, settings: Settings) -> tuple[Rights, int | None]:
    """What the options say, checked as in the configuration. Raises SettingsError with every mistake."""
    layer = Layer()

    def put(path: Path, value: Any) -> None:
        option = f"--{str(path[0]).replace('_', '-')}"
        layer.put(path, value, COMMAND_LINE, (COMMAND_LINE, option))

    for name in (*OPTIONS, "may_approve"):
        value = getattr(args, name)
        if value is not None:
            put((name,), [word.strip() for word in value.split(",") if word.strip()] if name in LISTS else value)
    put(("budget",), [_to_budget(text) for text in args.budget or ()])
    for index, budget in enumerate(layer.values["budget"]):
        for path in (("budget", index), *(("budget", index, name) for name in budget)):
            layer.labels[path] = layer.labels[("budget",)]
    table = node_at(("server", "api_keys", 0))
    assert table is not None
    layer.check(os.path.expanduser, table)
    if layer.problems:
        raise SettingsError(layer.problems)
    form: KeySettings = table.build(layer.values)
    reader = EntryReader(known_backends(settings), ())
    rights, expires_at = reader.rights_of(form, "")
    if expires_at is not None and expires_at <= now():
        reader.problems.append(("expires_at", IS_PAST))
    if reader.problems:
        raise SettingsError(Problem(COMMAND_LINE, f"--{key.replace('_', '-')}", message) for key, message in reader.problems)
    return rights, expires_at


def _to_budget(text: str) -> dict[str, Any]:
    """Raises SettingsError."""
    found = BUDGET.fullmatch(text)
    if not found:
        expected = (
            f"expected an amount, its unit and its window, as 5usd/day (units {', '.join(BUDGET_UNITS)}; windows {', '.join(WINDOWS)})"
        )
        raise SettingsError([Problem(COMMAND_LINE, "--budget", f"{expected}, got {text!r}")])
    return {found["unit"]: found["amount"], "per": found["per"]}
