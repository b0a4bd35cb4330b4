"""JSON with comments and trailing commas, edited as text."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from app.clients.unreadable import Unreadable, line_of, line_start, newline_of

TOKEN = re.compile(
    r"""(?P<layout>\s+|//[^\n]*|/\*.*?\*/)"""
    r"""|(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")"""
    r"""|(?P<mark>[{}\[\]:,])"""
    r"""|(?P<word>[\w.+-]+)""",
    re.DOTALL,
)
MAX_DEPTH = 200
HAS_NAMED_ITEMS = False


@dataclass(slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


@dataclass(slots=True)
class Node:
    """A value and where it stands. An object has its members, too; one that stands there twice counts as the last of them."""

    start: int
    end: int
    value: Any
    members: dict[str, Member] = field(default_factory=dict)
    is_ambiguous: bool = False


@dataclass(slots=True)
class Member:
    key_start: int
    node: Node
    comma: int | None = None
    """Where the comma after it stands."""


def parse(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):  # most files have no comments: 30 times faster
        data = json.loads(text)
        if isinstance(data, dict):
            return data
    root = _root(text)
    return {} if root is None else dict(root.value)


def put(text: str, path: tuple[str, ...], value: Any) -> str:
    style = _Style.of(text)
    node = _root(text)
    if node is None:
        lead = text + style.newline if text.strip() and not text.endswith("\n") else text
        return lead + style.rendered(_nested(path, value), "") + style.newline
    for depth, name in enumerate(path):
        _require_object(text, node, path[:depth])
        if name not in node.members:
            return _inserted(text, node, name, _nested(path[depth + 1 :], value), style)
        node = node.members[name].node
    return text[: node.start] + style.rendered(value, _indent_at(text, node.start)) + text[node.end :]


def drop(text: str, path: tuple[str, ...]) -> str:
    node = _root(text)
    assert node, "what is dropped exists"
    for depth, name in enumerate(path[:-1]):
        _require_object(text, node, path[:depth])
        node = node.members[name].node
    _require_object(text, node, path[:-1])
    members = list(node.members.values())
    gone = node.members[path[-1]]
    begin = len(text[: gone.key_start].rstrip())
    if gone.comma is not None:
        return text[:begin] + text[gone.comma + 1 :]
    if len(members) > 1 and (comma := members[-2].comma) is not None:
        return text[:comma] + text[comma + 1 : begin] + text[gone.node.end :]
    rest = text[gone.node.end : node.end - 1]
    return text[:begin] + (rest if rest.strip() else "") + text[node.end - 1 :]


def _inserted(text: str, node: Node, name: str, value: Any, style: _Style) -> str:
    outer = _indent_at(text, node.start)
    indent = outer + style.unit
    member = f"{style.newline}{indent}{json.dumps(name, ensure_ascii=False)}: {style.rendered(value, indent)}"
    begin, end = node.start + 1, node.end - 1
    if node.members:
        return f"{text[:begin]}{member},{text[begin:]}"
    inside = text[begin:end]
    return text[:begin] + member + (inside if inside.strip() else style.newline + outer) + text[end:]


def _nested(path: tuple[str, ...], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


def _require_object(text: str, node: Node, path: tuple[str, ...]) -> None:
    where = f"{'.'.join(path) or 'the file'}, line {line_of(text, node.start)},"
    if not isinstance(node.value, dict):
        raise Unreadable(f"{where} is not an object")
    if node.is_ambiguous:
        raise Unreadable(f"{where} has the same key twice; remove one of them")


def _indent_at(text: str, position: int) -> str:
    line = text[line_start(text, position) : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


@dataclass(frozen=True, slots=True)
class _Style:
    newline: str
    unit: str

    @classmethod
    def of(cls, text: str) -> _Style:
        found = re.search(r"\{[ \t]*\r?\n([ \t]+)\S", text)
        return cls(newline_of(text), found[1] if found else "  ")

    def rendered(self, value: Any, indent: str) -> str:
        return json.dumps(value, indent=self.unit, ensure_ascii=False).replace("\n", self.newline + indent)


@lru_cache(maxsize=2)
def _root(text: str) -> Node | None:
    """The object that is the document; None if there is nothing but layout."""
    tokens = _tokens(text)
    first = next(tokens)
    if first.kind == "end":
        return None
    node = _node(text, first, tokens, 0)
    if (extra := next(tokens)).kind != "end":
        raise _unexpected(text, extra)
    if not isinstance(node.value, dict):
        raise Unreadable("the file is not a JSON object")
    return node


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while position < len(text):
        found = TOKEN.match(text, position)
        if not found:
            raise Unreadable(f"line {line_of(text, position)} is not JSON")
        position = found.end()
        if found.lastgroup != "layout":
            yield Token(str(found.lastgroup), found[0], found.start(), found.end())
    yield Token("end", "the end of the file", len(text), len(text))


def _node(text: str, token: Token, tokens: Iterator[Token], depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise Unreadable(f"line {line_of(text, token.start)}: more than {MAX_DEPTH} levels")
    match token.text if token.kind == "mark" else token.kind:
        case "{":
            return _object(text, token, tokens, depth)
        case "[":
            return _array(text, token, tokens, depth)
        case "string" | "word":
            try:
                return Node(token.start, token.end, json.loads(token.text))
            except ValueError:
                raise _unexpected(text, token) from None
        case _:
            raise _unexpected(text, token)


def _object(text: str, opening: Token, tokens: Iterator[Token], depth: int) -> Node:
    node = Node(opening.start, opening.end, {})
    token = next(tokens)
    while token.text != "}" or token.kind != "mark":
        if token.kind != "string":
            raise _unexpected(text, token)
        key = json.loads(token.text)
        _expect(text, next(tokens), ":")
        member = Member(token.start, _node(text, next(tokens), tokens, depth + 1))
        node.is_ambiguous |= key in node.members
        node.members[key] = member
        node.value[key] = member.node.value
        token = next(tokens)
        if token.kind == "mark" and token.text == ",":
            member.comma = token.start
            token = next(tokens)
        elif token.text != "}":
            raise _unexpected(text, token)
    node.end = token.end
    return node


def _array(text: str, opening: Token, tokens: Iterator[Token], depth: int) -> Node:
    node = Node(opening.start, opening.end, [])
    token = next(tokens)
    while token.text != "]" or token.kind != "mark":
        node.value.append(_node(text, token, tokens, depth + 1).value)
        token = next(tokens)
        if token.kind == "mark" and token.text == ",":
            token = next(tokens)
        elif token.text != "]":
            raise _unexpected(text, token)
    node.end = token.end
    return node


def _expect(text: str, token: Token, mark: str) -> None:
    if token.kind != "mark" or token.text != mark:
        raise _unexpected(text, token)


def _unexpected(text: str, token: Token) -> Unreadable:
    return Unreadable(f"line {line_of(text, token.start)} is not JSON: unexpected {token.text[:20]}")
