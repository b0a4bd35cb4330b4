"""The configuration reference, from `app.config.schema` (meaning, default), `app.config.validation` (what fits) and the command line's own help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, get_type_hints

import orjson

from app.cli.command import build_parser
from app.config.environment import NAMED, variable
from app.config.go_clinvk import MEANINGLESS, UNSET, VARIABLES
from app.config.schema import (
    BackendSettings,
    KeySettings,
    ParallelSettings,
    PriceSettings,
    RunSettings,
    ServerSettings,
    SessionSettings,
    Settings,
    UnifiedFlags,
    UsageSettings,
)
from app.config.validation import Items, Node, Path, Value, node_at
from docs.markdown import code, codes, table

GROUPS: tuple[tuple[str, type], ...] = (
    ("unified_flags", UnifiedFlags),
    ("backends.<name>", BackendSettings),
    ("session", SessionSettings),
    ("server", ServerSettings),
    ("server.api_keys[0]", KeySettings),
    ("parallel", ParallelSettings),
    ("runs", RunSettings),
    ("usage", UsageSettings),
    ("prices.<pattern>", PriceSettings),
)

IN_HELP = re.compile(r"\((?P<key>[a-z_.]+); default")
"""How the help of an option names the setting that it is."""


def settings_tables() -> str:
    top = table(HEAD, _rows(Settings, ("",), only=("default_backend",)))
    groups = (f"### {name.replace('[0]', '[]')}\n\n{_meaning(kind)}{table(HEAD, _rows(kind, _path(name)))}" for name, kind in GROUPS)
    return "\n".join([top, *groups])


HEAD = ("Key", "Value", "Default", "Meaning", "Variable")


def _path(name: str) -> Path:
    """``server.api_keys[0]`` is what all items of the list have."""
    return tuple(int(part) if part.isdecimal() else part for part in name.replace("[", ".").rstrip("]").split("."))


def _meaning(kind: type) -> str:
    """The group's docstring, where it has one of its own (a dataclass makes its signature one)."""
    text = kind.__doc__ or ""
    return "" if text.startswith(f"{kind.__name__}(") else f"{text.strip()}\n\n"


def _rows(kind: type, group: Path, *, only: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    hints = get_type_hints(kind)
    for item in fields(kind):
        if item.metadata.get("is_internal") or (only and item.name not in only):
            continue
        path = tuple(part for part in (*group, item.name) if part != "")
        if is_dataclass(hints[item.name]) and isinstance(hints[item.name], type):
            yield from _rows(hints[item.name], path)
            continue
        leaf = node_at(path)
        expected = leaf.expected() if isinstance(leaf, Value | Items) else "a table"
        shown = path[2:] if path[0] == "backends" else path[3:] if 0 in path else path[1:] or path
        yield code(".".join(map(str, shown))), expected, _default(item), _words(item, path), _variable(path, leaf)


def _variable(path: Path, leaf: Node | None) -> str:
    """Of a table it is one for each name in it; some settings are for the file alone."""
    if (isinstance(leaf, Items) and not leaf.text) or 0 in path or (isinstance(leaf, Value) and dict in leaf.kinds):
        return ""
    return code(variable(path if isinstance(leaf, Value | Items) else (*path, "<name>")).replace("<NAME>", "<name>"))


def _words(item: Field[Any], path: Path) -> str:
    option = options().get(".".join(map(str, path)))
    return str(item.metadata["meaning"]) + (f". Option {code(option)}" if option else "")


def _default(item: Field[Any]) -> str:
    default = item.default_factory() if item.default_factory is not MISSING else item.default
    if default is None:
        return ""
    return code(f"{default:g}" if isinstance(default, float) else orjson.dumps(default).decode().replace(",", ", "))


def options() -> dict[str, str]:
    """The options of `clinvk serve` that are settings, by key: their help names it."""
    (commands,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    actions = commands.choices["serve"]._actions
    return {found["key"]: action.option_strings[-1] for action in actions if (found := IN_HELP.search(action.help or ""))}


def named_variables() -> str:
    rows = [(code(name), code(".".join(path)), code(variable(path))) for name, path in NAMED.items()]
    return table(("Variable", "Setting", "The long name"), rows)


def left_out() -> str:
    groups: dict[tuple[str, str], list[str]] = {}
    for key, reason in MEANINGLESS.items():
        groups.setdefault(("any", f"ignored: it {reason}"), []).append(key)
    for key, (value, reason) in UNSET.items():
        groups.setdefault((code(orjson.dumps(value).decode()), reason or "treated as not set"), []).append(key)
    for start, reason in VARIABLES.items():
        groups.setdefault(("any", f"ignored: the variable {reason}"), []).append(f"{start}*")
    return table(("Keys", "Value", "What happens"), [(codes(keys), value, what) for (value, what), keys in groups.items()])
