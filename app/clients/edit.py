"""Changes to the text of a configuration file. Every change is checked: parsed again, the file says exactly what was meant.

A path leads through tables; a list on the way holds tables, identified by their member ``name``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

from app.clients import json_text, toml_text, yaml_text
from app.clients.unreadable import Unreadable

Path = tuple[str, ...]
FormatName = Literal["json", "toml", "yaml"]

MISSING: Any = object()
LAYOUT = re.compile(r"\s+|\{\s*\}|\[\s*\]")


class Format(Protocol):
    """A module for one syntax. What it is not asked to change it leaves as it is, comments included."""

    HAS_NAMED_ITEMS: bool
    """Whether a new table with a member ``name`` is an item of a list."""

    def parse(self, text: str, /) -> dict[str, Any]:
        """Raises Unreadable."""

    def put(self, text: str, path: Path, value: Any, /) -> str:
        """``text`` with ``value`` at ``path``, in place of what was there. Raises Unreadable."""

    def drop(self, text: str, path: Path, /) -> str:
        """``text`` without what is at ``path``, which exists. Raises Unreadable."""


FORMATS: Mapping[FormatName, Format] = {"json": json_text, "toml": toml_text, "yaml": yaml_text}


def at(data: Any, path: Path) -> Any:
    """What is at ``path``; MISSING if nothing is."""
    for name in path:
        if isinstance(data, list):
            data = next((item for item in data if isinstance(item, dict) and item.get("name") == name), MISSING)
        else:
            data = data.get(name, MISSING) if isinstance(data, dict) else MISSING
        if data is MISSING:
            return MISSING
    return data


def put(kind: Format, text: str, entries: dict[Path, Any]) -> str:
    """``text`` with each value at its path, where new ones come first. Raises Unreadable."""
    for path, value in reversed(entries.items()):
        after = kind.put(text, path, value)
        text = _checked(kind, after, path, _with(kind.parse(text), path, value, lists=kind.HAS_NAMED_ITEMS))
    return text


def drop(kind: Format, text: str, paths: Iterable[Path], *, before: str) -> str:
    """``text`` without what is at ``paths``, and without the tables around it that ``before`` does not have.

    If nothing but the layout then differs from ``before``, the text before the first `put`, the result is ``before``: byte for byte what
    was there. Raises Unreadable.
    """
    had = kind.parse(before)
    for path in paths:
        if at(kind.parse(text), path) is not MISSING:
            text = _dropped(kind, text, path)
        for end in range(len(path) - 1, 0, -1):
            around = path[:end]
            if at(kind.parse(text), around) in ({}, [], None) and at(had, around) is MISSING:
                text = _dropped(kind, text, around)
    is_same = _pruned(kind.parse(text)) == _pruned(had) and LAYOUT.sub("", text) == LAYOUT.sub("", before)
    return before if is_same else text


def _dropped(kind: Format, text: str, path: Path) -> str:
    return _checked(kind, kind.drop(text, path), path, _without(kind.parse(text), path))


def _checked(kind: Format, after: str, path: Path, meant: dict[str, Any]) -> str:
    try:
        is_meant = _pruned(kind.parse(after)) == _pruned(meant)
    except Unreadable:
        is_meant = False
    if not is_meant:
        raise Unreadable(f"{'.'.join(path)} is written in a way that cannot be edited here; edit it by hand")
    return after


def _with(data: dict[str, Any], path: Path, value: Any, *, lists: bool) -> dict[str, Any]:
    data = copy.deepcopy(data)
    around: Any = data
    for name in path[:-1]:
        if not isinstance(around.get(name), dict | list):
            around[name] = [] if lists else {}
        around = around[name]
    if isinstance(around, list):
        found = at(around, path[-1:])
        place = 0 if found is MISSING else around.index(found)
        around[place : place + (found is not MISSING)] = [value]
    else:
        around[path[-1]] = value
    return data


def _without(data: dict[str, Any], path: Path) -> dict[str, Any]:
    data = copy.deepcopy(data)
    around, found = at(data, path[:-1]), at(data, path)
    if isinstance(around, list):
        around.remove(found)
    else:
        del around[path[-1]]
    return data


def _pruned(value: Any) -> Any:
    """``value`` without its empty members: an empty table or list says nothing."""
    if isinstance(value, dict):
        members = ((name, _pruned(member)) for name, member in value.items())
        return {name: member for name, member in members if member not in ({}, [], None)}
    return [_pruned(item) for item in value] if isinstance(value, list) else value
