"""The configuration file: YAML to plain values, with the place of each as `file:line:column`.

The text is composed, not loaded: nodes keep their places, and no tag can build a Python object.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from app.config.go_clinvk import why_meaningless, why_unset
from app.config.layer import Layer, dotted
from app.config.problems import Problem, SettingsError
from app.config.validation import NUMBER_LIMIT_CHARS, Path, node_at
from app.config.yaml_errors import place_of, sentence_of

NOT_IN_THE_FILE = {"home": "is where the file lies; set CLINVK_HOME instead"}

# YAML 1.1 also reads 010 as 8 and 1:30 as 90. Nobody means that in a port or a timeout.
PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9_]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?")

DEPTH_LIMIT = 40
"""How deep a table of a custom backend may be nested; an anchor that contains itself is endless."""


def read_file(file: str) -> Layer:
    """The content of the file. Raises SettingsError if it cannot be read or is not YAML at all."""
    reader = _Reader(file)
    root = _compose(file)
    reader.layer.values = reader.plain(root, ()) if root is not None else {}
    return reader.layer


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.layer = Layer(is_typed=True)

    def plain(self, node: yaml.Node, path: Path) -> Any:
        """The node as plain data. What has no plain meaning is reported, and None."""
        self.layer.labels[path] = self._place(node), dotted(path)
        self.layer.places.setdefault(path, self._place(node))
        if len(path) > DEPTH_LIMIT:
            return self._unreadable(node, path, f"is nested deeper than {DEPTH_LIMIT} levels, or holds itself")
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._table(node, path)
        return self._scalar(node, path)

    def _table(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        table: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, child in node.value:
            here = (*path, key.value) if isinstance(key, yaml.ScalarNode) else path
            if not isinstance(key, yaml.ScalarNode):
                self._report(key, path, "expected a name before the colon")
            elif key.tag == "tag:yaml.org,2002:merge":
                self._report(key, path, "merge keys (<<) are not supported; repeat the keys")
            elif key.value in lines:
                self._report(key, here, f"is given twice, first in line {lines[key.value]}; keep one")
            elif dotted(here) in NOT_IN_THE_FILE:
                self._report(key, here, NOT_IN_THE_FILE[key.value])
            elif node_at(here) is None and (reason := why_meaningless(dotted(here))):
                self._warn(key, here, f"{reason}; ignored")
            else:
                lines[key.value] = key.start_mark.line + 1
                self.layer.places[here] = self._place(key)
                value = self.plain(child, here)
                unset = why_unset(dotted(here), value)
                if unset is None:
                    table[key.value] = value
                elif unset:
                    self._warn(child, here, unset)
        return table

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text: str = node.value
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "null":
                return None
            case "bool":
                self.layer.written[path] = text
                return yaml.SafeLoader.bool_values[text.lower()]
            case "int" | "float" as kind if len(text) <= NUMBER_LIMIT_CHARS and PLAIN_NUMBER.fullmatch(text):
                return int(text.replace("_", "")) if kind == "int" else float(text.replace("_", ""))
            case "int" | "float":
                message = f"expected a plain decimal number or a text in quotes, got {text[:NUMBER_LIMIT_CHARS]}"
                return self._unreadable(node, path, message)
            case "str" | "timestamp":
                return text
        return self._unreadable(node, path, f"has the tag {node.tag}, which is not supported; write plain values")

    def _unreadable(self, node: yaml.Node, path: Path, message: str) -> None:
        self.layer.unreadable.add(path)
        self._report(node, path, message)

    def _place(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def _warn(self, node: yaml.Node, path: Path, message: str) -> None:
        self.layer.warnings.append(Problem(self._place(node), dotted(path), message))

    def _report(self, node: yaml.Node, path: Path, message: str) -> None:
        self.layer.problems.append(Problem(self._place(node), dotted(path), message))


def _compose(file: str) -> yaml.Node | None:
    """The root node, None for a file without content. Raises SettingsError if it cannot be read or is not YAML."""
    try:
        with open(file, "rb") as stream:
            node: yaml.Node | None = yaml.compose(stream, Loader=yaml.SafeLoader)
            return node
    except OSError as error:
        raise SettingsError([Problem(file, "", f"cannot be read: {error.strerror}")]) from None
    except RecursionError:
        raise SettingsError([Problem(file, "", "is not valid YAML: it is nested too deep")]) from None
    except yaml.YAMLError as error:
        raise SettingsError([Problem(file + place_of(error), "", f"is not valid YAML: {sentence_of(error)}")]) from None
