"""The shape of the settings, read off the dataclasses once: which keys there are, and what fits each of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from app.config.problems import Problem
from app.config.schema import Settings

Path = tuple[str, ...]

NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list of texts", dict: "a table"}

NUMBER_LIMIT_CHARS = 40
"""No setting needs more, and Python's own limits (4,300 digits; what a float can hold) are not met."""


@dataclass(slots=True)
class Layer:
    """What one source says: values and their places by path, and what is wrong with it."""

    values: dict[Path, Any] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    """What is read in another way than it stands there, or not at all, and does no harm."""


class InvalidValue(Exception):
    """A value that does not fit; the message says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value. ``kinds`` are the types it may have."""

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
        if self.at_least is not None:
            return f"{text}, at least {self.at_least:g}"
        return text


@dataclass(frozen=True, slots=True)
class Group:
    """A fixed set of keys: one of the dataclasses."""

    kind: type
    members: Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class Table:
    """Keys that the operator chooses, each with the same shape below."""

    of: Node


Node = Leaf | Group | Table


def node_of(kind: Any, metadata: Mapping[str, Any]) -> Node:
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        shown = [item for item in fields(kind) if not item.metadata.get("is_internal")]
        return Group(kind, {item.name: node_of(hints[item.name], item.metadata) for item in shown})
    if get_origin(kind) is dict:
        return Table(node_of(get_args(kind)[1], metadata))
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return Leaf(
        kinds=tuple(get_origin(item) or item for item in kinds if item is not NoneType),
        is_optional=NoneType in kinds,
        is_path=metadata["is_path"],
        is_secret=metadata["is_secret"],
        **metadata["limits"],
    )


TREE = node_of(Settings, {})


def node_at(path: Path) -> Node | None:
    """The shape at ``path``, None where there is no such key."""
    node: Node | None = TREE
    for name in path:
        match node:
            case Group(_, members):
                node = members.get(name)
            case Table(of):
                node = of
            case _:
                return None
    return node


def leaf_keys(node: Node = TREE, prefix: Path = ()) -> Iterator[Path]:
    """The paths of all leaves whose names are fixed (nothing below a table)."""
    match node:
        case Leaf():
            yield prefix
        case Group(_, members):
            for name, child in members.items():
                yield from leaf_keys(child, (*prefix, name))


def fit(leaf: Leaf, value: Any, written: str | None = None) -> Any:
    """``value`` as the leaf holds it. Raises InvalidValue. ``written`` is how the value stood in the file."""
    if value is None and leaf.is_optional:
        return None
    kind = type(value)
    if kind is int and float in leaf.kinds and int not in leaf.kinds:
        value, kind = float(value), float
    if kind is tuple:
        value, kind = list(value), list
    if kind not in leaf.kinds or (kind is list and not all(isinstance(item, str) for item in value)):
        raise InvalidValue(f"expected {leaf.expected()}, got {_shown(leaf, value, written)}{_hint(leaf, value)}")
    if not _within_limits(leaf, value):
        raise InvalidValue(f"expected {leaf.expected()}, got {_shown(leaf, value, written)}")
    return value


def _within_limits(leaf: Leaf, value: Any) -> bool:
    if leaf.choices:
        return value in leaf.choices
    if not isinstance(value, int | float) or isinstance(value, bool):
        return True
    return (
        math.isfinite(value)
        and (leaf.above is None or value > leaf.above)
        and (leaf.at_least is None or value >= leaf.at_least)
        and (leaf.at_most is None or value <= leaf.at_most)
    )


def parse(leaf: Leaf, text: str) -> Any:
    """The value that ``text`` (an environment variable, a command line) means. Raises InvalidValue."""
    kinds = set(leaf.kinds)
    if str in kinds:
        return fit(leaf, text)
    if list in kinds:
        return [item.strip() for item in text.split(",") if item.strip()]
    if dict in kinds:
        raise InvalidValue("can only be set in the configuration file")
    if bool in kinds:
        known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
        return fit(leaf, known.get(text.strip().lower(), text))
    number: Any = text
    if len(text) <= NUMBER_LIMIT_CHARS:
        with suppress(ValueError):
            number = int(text) if int in kinds else float(text)
    return fit(leaf, number)


def _shown(leaf: Leaf, value: Any, written: str | None) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            name, text = "the boolean", written or str(value).lower()
        case int() | float():
            name, text = "the number", written or f"{value:g}"
        case str():
            name, text = "the text", repr(value if len(value) <= 60 else f"{value[:57]}...")
        case list():
            return "a list that does not hold texts alone" if list in leaf.kinds else "a list"
        case _:
            return "a table"
    return f"{name.replace('the', 'a')} that is not shown here" if leaf.is_secret else f"{name} {text}"


def _hint(leaf: Leaf, value: Any) -> str:
    kinds = set(leaf.kinds)
    if str in kinds and isinstance(value, bool | int | float):
        return "; put it in quotes"
    if kinds & {int, float} and isinstance(value, str):
        match = re.match(r"[0-9]+(\.[0-9]+)?", value.strip())
        if match:
            return f"; write the number without quotes: {match[0]}" if match[0] == value.strip() else "; write the number alone"
    if bool in kinds and isinstance(value, str) and value.lower() in ("true", "false", "yes", "no", "on", "off"):
        return f"; write it without quotes: {value.lower()}"
    if list in kinds and isinstance(value, str):
        return "" if leaf.is_secret else f"; write a list: [{value!r}]"
    if value is None and kinds == {list}:
        return "; write [] for an empty list"
    return ""
