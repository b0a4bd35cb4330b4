"""YAML, edited as text: members of the document, and items of its lists of mappings."""

from __future__ import annotations

from typing import Any

import yaml

from app.clients.unreadable import Unreadable, line_of, line_start, newline_of, next_line

UNLIMITED_WIDTH = 1 << 20
NULL = "tag:yaml.org,2002:null"
HAS_NAMED_ITEMS = True


def parse(text: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unreadable(f"not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(data, dict | None):
        raise Unreadable("the file is not a YAML mapping")
    return data or {}


def put(text: str, path: tuple[str, ...], value: Any) -> str:
    newline = newline_of(text)
    member = _member(text, path[0])
    if member is None:
        text += "" if text.endswith("\n") or not text else newline
        if len(path) == 1:
            return text + _rendered({path[0]: value}, "", newline)
        return f"{text}{path[0]}:{newline}{_rendered([value], '  ', newline)}"
    key, node = member
    if len(path) == 1:
        return text[: node.start_mark.index] + _rendered(value, "", newline).strip() + text[_end(node) :]
    if isinstance(node, yaml.SequenceNode) and node.value:
        _require_list(text, node, path[0])
        found = _item(node, path[1])
        first = found or node.value[0]
        start = line_start(text, first.start_mark.index)
        indent = " " * text[start:].index("-")
        return text[:start] + _rendered([value], indent, newline) + text[next_line(text, _end(first)) if found else start :]
    colon = text.index(":", key.end_mark.index) + 1
    if not isinstance(node, yaml.ScalarNode) or node.tag != NULL:
        _require_list(text, node, path[0], may_be_flow=True)
        text = text[:colon] + text[node.end_mark.index :]
    begin = next_line(text, colon)
    lead = "" if text[:begin].endswith("\n") else newline
    return text[:begin] + lead + _rendered([value], "  ", newline) + text[begin:]


def drop(text: str, path: tuple[str, ...]) -> str:
    member = _member(text, path[0])
    assert member, "what is dropped exists"
    key, node = member
    if len(path) == 1:
        return text[: line_start(text, key.start_mark.index)] + text[next_line(text, _end(node)) :]
    _require_list(text, node, path[0])
    item = _item(node, path[1])
    assert item, "what is dropped exists"
    start, end = line_start(text, item.start_mark.index), next_line(text, _end(item))
    if len(node.value) > 1:
        return text[:start] + text[end:]
    colon = text.index(":", key.end_mark.index) + 1
    return f"{text[:colon]} []{text[colon:start]}{text[end:]}"


def _member(text: str, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    parse(text)
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    if root.flow_style:
        raise Unreadable("the file is in braces; write one member a line")
    return next(((key, node) for key, node in root.value if key.value == name), None)


def _item(node: yaml.Node, name: str) -> yaml.Node | None:
    for item in node.value:
        if isinstance(item, yaml.MappingNode) and any(key.value == "name" and node.value == name for key, node in item.value):
            return item
    return None


def _require_list(text: str, node: yaml.Node, name: str, *, may_be_flow: bool = False) -> None:
    if not isinstance(node, yaml.SequenceNode) or (node.flow_style and not may_be_flow):
        raise Unreadable(f"{name}, line {line_of(text, node.start_mark.index)}, is not a list with an item on each line; write it so")


def _end(node: yaml.Node) -> int:
    """Where the text of ``node`` ends: a collection's own mark is where the next one begins."""
    if isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _rendered(value: Any, indent: str, newline: str) -> str:
    dumped = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=UNLIMITED_WIDTH)
    return "".join(f"{indent}{line}{newline}" for line in dumped.removesuffix("...\n").splitlines())
