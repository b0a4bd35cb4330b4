"""The configuration file: YAML to values by path, each with its place, and every problem with `file:line:column`.

The text is composed, not loaded: nodes keep their places, and no tag can build a Python object.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

import yaml

from app.config.go_clinvk import why_meaningless, why_unset
from app.config.problems import Problem, SettingsError, did_you_mean
from app.config.validation import NUMBER_LIMIT_CHARS, TREE, Group, InvalidValue, Layer, Leaf, Node, Path, Table, fit, leaf_keys, parse

NOT_IN_THE_FILE = {"home": "is where the file lies; set CLINVK_HOME instead"}

# YAML 1.1 also reads 010 as 8 and 1:30 as 90. Nobody means that in a port or a timeout.
PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")

DEPTH_LIMIT = 40
"""How deep a table of a custom backend may be nested; an anchor that holds itself is endless."""


def read_file(file: str) -> Layer:
    """What the file says. Raises SettingsError when it cannot be read or is not YAML at all."""
    reader = _Reader(file)
    root = _compose(file)
    if root is not None:
        reader.walk(root, TREE, ())
    return reader.layer


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.layer = Layer()

    def walk(self, node: yaml.Node, shape: Node, path: Path) -> None:
        self.layer.places[path] = self._place(node)
        if isinstance(shape, Leaf):
            self._take(node, shape, path)
        elif _is_null(node):
            self.layer.values[path] = {}
        elif isinstance(node, yaml.MappingNode):
            if isinstance(shape, Table):
                self.layer.values[path] = {}
            for name, key, child in self._pairs(node, path):
                below = shape.of if isinstance(shape, Table) else shape.members.get(name)
                if not path and name in NOT_IN_THE_FILE:
                    self._report(key, (name,), NOT_IN_THE_FILE[name])
                elif below is None and (reason := why_meaningless((*path, name))):
                    self._warn(key, (*path, name), f"{reason}; it is left out")
                elif below is None:
                    self._report(key, (*path, name), f"unknown key; {_suggestion(name, shape, path)}")
                else:
                    self.walk(child, below, (*path, name))
                    self.layer.places[(*path, name)] = self._place(key)
        else:
            self._report(node, path, "expected a table (key: value), got " + ("a list" if _is_list(node) else "a single value"))

    def _take(self, node: yaml.Node, leaf: Leaf, path: Path) -> None:
        try:
            is_items = isinstance(node, yaml.SequenceNode) and list in leaf.kinds
            value = self._items(node, leaf, path) if is_items else self._plain(node, path)
            unset = why_unset(path, value)
            if unset is None:
                self.layer.values[path] = value if is_items else self._fit(node, leaf, value, path)
            elif unset:
                self._warn(node, path, unset)
        except InvalidValue as misfit:
            self._report(node, path, str(misfit))

    def _fit(self, node: yaml.Node, leaf: Leaf, value: Any, path: Path) -> Any:
        """The value as the leaf holds it; also a text that stands for one, as the original's `config set` writes them. Raises InvalidValue."""
        try:
            return fit(leaf, value, _written(node))
        except InvalidValue:
            if not isinstance(value, str) or leaf.is_secret or leaf.choices or dict in leaf.kinds:
                raise
            try:
                meant = parse(leaf, value)
            except InvalidValue:
                meant = None
            if meant in (None, []):
                raise
        self._warn(node, path, f"expected {leaf.expected()}; the text is read as one; write it without quotes or as a list")
        return meant

    def _items(self, node: yaml.Node, leaf: Leaf, path: Path) -> list[str]:
        """A list of texts, each fault at its own place."""
        text = Leaf(kinds=(str,), is_secret=leaf.is_secret)
        items = []
        for index, item in enumerate(node.value):
            key = (*path[:-1], f"{path[-1]}[{index}]")
            self.layer.places[key] = self._place(item)
            try:
                items.append(fit(text, self._plain(item, key), _written(item)))
            except InvalidValue as misfit:
                self._report(item, key, str(misfit))
        return items

    def _plain(self, node: yaml.Node, path: Path, depth: int = 0) -> Any:
        """The node as plain data. Raises InvalidValue for what has no plain meaning."""
        if depth > DEPTH_LIMIT:
            raise InvalidValue(f"is nested deeper than {DEPTH_LIMIT} levels, or holds itself")
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item, (*path[:-1], f"{path[-1]}[{index}]"), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            plain = {}
            for name, key, child in self._pairs(node, path):
                self.layer.places[(*path, name)] = self._place(key)
                plain[name] = self._plain(child, (*path, name), depth + 1)
            return plain
        return _scalar(node)

    def _pairs(self, node: yaml.MappingNode, path: Path) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Name, key node and value node of each entry; what is given twice or is no name is reported and left out."""
        seen: dict[str, yaml.Node] = {}
        pairs: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._report(key, path, "expected a name before the colon")
            elif key.tag == "tag:yaml.org,2002:merge":
                self._report(key, path, "merge keys (<<) are not supported; repeat the keys")
            elif key.value in seen:
                first = seen[key.value].start_mark.line + 1
                self._report(key, (*path, key.value), f"is given twice, first in line {first}; keep one")
            else:
                seen[key.value] = key
                pairs.append((key.value, key, child))
        return pairs

    def _place(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def _warn(self, node: yaml.Node, path: Path, message: str) -> None:
        self.layer.warnings.append(Problem(self._place(node), ".".join(path), message))

    def _report(self, node: yaml.Node, path: Path, message: str) -> None:
        self.layer.problems.append(Problem(self._place(node), ".".join(path), message))


def _compose(file: str) -> yaml.Node | None:
    """The root node, None for a file without content. Raises SettingsError when it cannot be read or is not YAML."""
    try:
        with open(file, "rb") as stream:
            node: yaml.Node | None = yaml.compose(stream, Loader=yaml.SafeLoader)
            return node
    except OSError as error:
        raise SettingsError([Problem(file, "", f"cannot be read: {error.strerror}")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        message = ", ".join(part for part in (error.context, error.problem) if part)
        raise SettingsError([Problem(where, "", f"is not valid YAML: {message}")]) from None
    except RecursionError:
        raise SettingsError([Problem(file, "", "is not valid YAML: it is nested too deep")]) from None
    except yaml.YAMLError as error:
        raise SettingsError([Problem(file, "", f"is not valid YAML: {str(error).splitlines()[0]}")]) from None


def _scalar(node: yaml.Node) -> Any:
    text: str = node.value
    match node.tag.removeprefix("tag:yaml.org,2002:"):
        case "null":
            return None
        case "bool":
            return yaml.SafeLoader.bool_values[text.lower()]
        case "int" | "float" as kind:
            if len(text) > NUMBER_LIMIT_CHARS or not PLAIN_NUMBER.fullmatch(text):
                raise InvalidValue(f"expected a plain decimal number or a text in quotes, got {text[:NUMBER_LIMIT_CHARS]}")
            return int(text.replace("_", "")) if kind == "int" else float(text.replace("_", ""))
        case "str" | "timestamp":
            return text
    raise InvalidValue(f"has the tag {node.tag}, which is not supported; write plain values")


def _written(node: yaml.Node) -> str | None:
    return node.value if isinstance(node, yaml.ScalarNode) else None


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode)


def _suggestion(name: str, shape: Group | Table, path: Path) -> str:
    """What may be meant: the same name elsewhere in the tree, or one like it here, or elsewhere."""
    siblings = set(shape.members) - set(NOT_IN_THE_FILE) if isinstance(shape, Group) else set()
    elsewhere = {".".join(key): key[-1] for key in leaf_keys() if key[:-1] != path}
    same = [key for key, last in elsewhere.items() if last == name]
    if same:
        return f"did you mean {' or '.join(map(repr, same))}?"
    near = did_you_mean(name, siblings)
    if near.startswith("did"):
        return near
    close = get_close_matches(name, set(elsewhere.values()), n=1, cutoff=0.75)
    if close:
        return f"did you mean {' or '.join(repr(key) for key, last in elsewhere.items() if last == close[0])}?"
    return near or "see the configuration reference"
