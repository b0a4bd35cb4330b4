"""The shape of the settings, read off the dataclasses once: which keys exist, and which values each accepts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from app.config.schema import Settings

Path = tuple[str | int, ...]
"""A setting's key in parts; a number is the index in a list."""

NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list of texts", dict: "a table"}
BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

NUMBER_LIMIT_CHARS = 40
"""No setting needs more; Python's own limits (4,300 digits, the largest float) are never reached."""


@dataclass(frozen=True, slots=True)
class Value:
    """One setting. ``kinds`` are the types that it accepts."""

    kinds: tuple[type, ...]
    is_optional: bool = False
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    is_path: bool = False
    is_secret: bool = False

    def expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        text = " or ".join(NAMES[kind] for kind in self.kinds)
        if self.above is not None:
            return f"{text} above {self.above:g}"
        if self.at_least is not None and self.at_most is not None:
            return f"{text} from {self.at_least:g} to {self.at_most:g}"
        return text if self.at_least is None else f"{text}, at least {self.at_least:g}"

    def below(self, name: str | int) -> Node | None:
        return Value((str,), is_path=self.is_path, is_secret=self.is_secret) if isinstance(name, int) else None

    def build(self, value: Any) -> Any:
        return value

    def converted(self, value: Any) -> Any:
        """``value`` as the setting holds it, if it has a type that can be converted; a text may stand for a number, a boolean or a list."""
        if float in self.kinds and type(value) is int:
            with suppress(OverflowError):
                return float(value)
        if not isinstance(value, str) or str in self.kinds:
            return list(value) if isinstance(value, tuple) else value
        if list in self.kinds and not self.is_secret:
            return split(value) or value
        if bool in self.kinds:
            return BOOLEANS.get(value.strip().lower(), value)
        if {int, float} & set(self.kinds) and len(value) <= NUMBER_LIMIT_CHARS:
            with suppress(ValueError):
                return int(value) if int in self.kinds else float(value)
        return value

    def accepts(self, value: Any) -> bool:
        if self.choices or type(value) not in self.kinds:
            return (value is None and self.is_optional) or value in self.choices
        if type(value) not in (int, float):
            return True
        return (
            math.isfinite(value)
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
        )


@dataclass(frozen=True, slots=True)
class Group:
    """A fixed set of keys: one of the dataclasses."""

    kind: type
    members: Mapping[str, Node]

    def below(self, name: str | int) -> Node | None:
        return self.members.get(str(name))

    def build(self, values: Mapping[str, Any]) -> Any:
        return self.kind(**{name: self.members[name].build(value) for name, value in values.items()})


@dataclass(frozen=True, slots=True)
class Table:
    """Keys that the operator chooses, with one shape of value."""

    values: Node

    def below(self, name: str | int) -> Node | None:
        return self.values

    def build(self, values: Mapping[str, Any]) -> Any:
        return {name: self.values.build(value) for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Items:
    """A list of tables of one shape."""

    values: Node
    text: Value | None = None
    """What an item may be instead of a table."""
    may_be_one: bool = False
    """A single table stands for a list of one."""

    def expected(self) -> str:
        if self.may_be_one:
            return "a table or a list of tables"
        return "a list of texts and tables" if self.text else "a list of tables"

    def of(self, raw: Any) -> Node:
        """The node of an item."""
        return self.values if self.text is None or isinstance(raw, dict) else self.text

    def below(self, name: str | int) -> Node | None:
        if isinstance(name, int):
            return self.values
        return self.values.below(name) if self.may_be_one else None

    def build(self, values: Any) -> Any:
        return [self.of(value).build(value) for value in values]


Node = Group | Table | Items | Value


def _node_of(kind: Any, metadata: Mapping[str, Any]) -> Node:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return Group(kind, {it.name: _node_of(hints[it.name], it.metadata) for it in fields(kind) if not it.metadata.get("is_internal")})
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if is_dataclass(kinds[0]):
        return Items(_node_of(kinds[0], metadata), may_be_one=True)
    item = get_args(kind)[0] if get_origin(kind) is list else None
    tables = [one for one in get_args(item) or (item,) if is_dataclass(one)]
    if tables:
        text = Value((str,), is_secret=metadata["is_secret"]) if str in get_args(item) else None
        return Items(_node_of(tables[0], metadata), text)
    if get_origin(kind) is dict:
        return Table(_node_of(get_args(kind)[1], metadata))
    return Value(
        kinds=tuple(get_origin(item) or item for item in kinds if item is not NoneType),
        is_optional=NoneType in kinds,
        is_path=metadata["is_path"],
        is_secret=metadata["is_secret"],
        **metadata["limits"],
    )


TREE = _node_of(Settings, {})


def node_at(path: Path) -> Node | None:
    """The node of a key; None if there is no such key."""
    node: Node | None = TREE
    for name in path:
        node = node.below(name) if node else None
    return node


def leaf_keys(node: Node | None = TREE, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all settings whose names are fixed (nothing below a table or in a list)."""
    if isinstance(node, Value) or (isinstance(node, Items) and node.text):
        yield prefix
    elif isinstance(node, Group):
        for name, child in node.members.items():
            yield from leaf_keys(child, (*prefix, name))


def split(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
