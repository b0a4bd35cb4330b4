"""One source of settings: its values with their places, and every mistake in them at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from app.config.problems import Problem, did_you_mean
from app.config.validation import TREE, Group, Items, Node, Path, Value, leaf_keys, node_at


@dataclass(slots=True)
class Layer:
    values: Any = field(default_factory=dict)
    """Nested by key: raw until `check`, then as the settings hold them."""
    places: dict[Path, str] = field(default_factory=dict)
    """Where each key is set: `file:line:column`, a variable, the command line."""
    labels: dict[Path, tuple[str, str]] = field(default_factory=dict)
    """The ``where`` and ``key`` of a problem with a value."""
    written: dict[Path, str] = field(default_factory=dict)
    """Booleans as they are written in a file (`yes`)."""
    unreadable: set[Path] = field(default_factory=set)
    """Values of a file whose problem is reported already."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    """What is ignored, or read differently from how it is written, without harm."""
    is_typed: bool = False
    """The source has types, so a text in place of another type is worth a warning."""

    def put(self, path: Path, value: Any, place: str, label: tuple[str, str]) -> None:
        group = self.values
        for name in path[:-1]:
            group = group.setdefault(name, {})
        group[path[-1]] = value
        self.places[path], self.labels[path] = place, label

    def check(self, expand: Callable[[str], str], tree: Node = TREE) -> None:
        """Convert the values and report every mistake. ``expand`` replaces the ``~`` of a path."""
        self.values = self._checked((), tree, self.values, expand)
        self.problems.sort(key=lambda problem: tuple(map(int, re.findall(r"(?<=:)\d+(?=:|$)", problem.where)[-2:])))

    def _checked(self, path: Path, node: Node | None, raw: Any, expand: Callable[[str], str]) -> Any:
        if path in self.unreadable:
            return None
        if node is None:
            self.problems.append(Problem(self.places[path], dotted(path), f"unknown key; {_suggestion(path)}"))
        elif isinstance(node, Value):
            return self._checked_value(path, node, raw, expand)
        elif isinstance(node, Items):
            if isinstance(raw, list):
                return [self._checked((*path, index), node.of(value), value, expand) for index, value in enumerate(raw)]
            if isinstance(raw, dict) and node.may_be_one:
                return [self._checked(path, node.values, raw, expand)]
            got = "a table" if isinstance(raw, dict) else "a single value" if raw is not None else "nothing; write [] for an empty list"
            self._report(path, f"expected {node.expected()}, got {got}")
            return []
        elif isinstance(raw, dict):
            return {name: self._checked((*path, name), node.below(name), value, expand) for name, value in raw.items()}
        elif raw is not None:
            self._report(path, f"expected a table (key: value), got {'a list' if isinstance(raw, list) else 'a single value'}")
        return {}

    def _checked_value(self, path: Path, setting: Value, raw: Any, expand: Callable[[str], str]) -> Any:
        value = setting.converted(raw)
        if not setting.accepts(value):
            self._report(path, f"expected {setting.expected()}, got {_shown(setting, value, self.written.get(path))}{_hint(setting, raw)}")
        elif isinstance(raw, str) and type(value) is not str and self.is_typed:
            message = f"expected {setting.expected()}; the text is read as one; write it without quotes or as a list"
            self.warnings.append(Problem(*self.labels[path], message))
        if isinstance(value, list) and list in setting.kinds:
            return [self._checked((*path, index), setting.below(index), item, expand) for index, item in enumerate(value)]
        if setting.is_path and isinstance(value, str) and value:
            value = expand(value)
            if not os.path.isabs(value):
                self._report(path, f"expected an absolute path, got {value!r}")
        return value

    def _report(self, path: Path, message: str) -> None:
        label = self.labels.get(path) or self.labels[path[:-1]]
        self.problems.append(Problem(*label, message))


def dotted(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _suggestion(path: Path) -> str:
    """The key that may be meant: the same name in another group, a similar one in this group, a similar one in another group."""
    group, name = list(path[:-1]), str(path[-1])
    node = node_at(tuple(group))
    siblings = set(node.members) - {"home"} if isinstance(node, Group) else set()
    elsewhere = {".".join(key): key[-1] for key in leaf_keys() if list(key[:-1]) != group}
    near = did_you_mean(name, siblings)
    for close in ([name], [] if near.startswith("did") else get_close_matches(name, set(elsewhere.values()), n=1, cutoff=0.75)):
        if keys := [repr(key) for key, last in elsewhere.items() if last in close]:
            return f"did you mean {' or '.join(keys)}?"
    return near or "see the configuration reference"


def _shown(setting: Value, value: Any, written: str | None) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            name, text = "boolean", written or str(value).lower()
        case int() | float():
            name, text = "number", f"{value:.15g}"
        case str():
            name, text = "text", repr(value if len(value) <= 60 else f"{value[:57]}...")
        case _:
            return "a list" if isinstance(value, list) else "a table"
    return f"a {name} that is not shown here" if setting.is_secret else f"the {name} {text}"


def _hint(setting: Value, raw: Any) -> str:
    kinds = set(setting.kinds)
    if str in kinds and isinstance(raw, bool | int | float):
        return "; put it in quotes"
    if kinds & {int, float} and isinstance(raw, str) and (number := re.match(r"[0-9]+(\.[0-9]+)?", raw.strip())):
        return "; write the number alone" if number[0] != raw.strip() else ""
    if list in kinds and isinstance(raw, str) and not setting.is_secret:
        return f"; write a list: [{raw!r}]"
    return "; write [] for an empty list" if raw is None and kinds == {list} else ""
