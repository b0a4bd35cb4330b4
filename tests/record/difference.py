"""What differs between two recordings of one case, in the CLI's own words: lines and members that came or went, not their values."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from difflib import unified_diff
from itertools import groupby
from typing import Any

TOLD = ("type", "subtype", "status", "stop_reason", "is_error", "terminal_reason")
"""Members whose values are part of the shape."""
BY_MODEL = ("modelUsage", "model_usage_since_last_result", "stats.models", "models")
"""Objects whose members are named by the models that were asked."""


def differences(before: str, now: str) -> list[str]:
    """One readable line for each difference; none where only values differ."""
    if not (_is_json(before) and _is_json(now)):
        return [] if before == now else [f"- {before.strip()!r}", f"+ {now.strip()!r}"]
    old, new = list(_values(before)), list(_values(now))
    found = [
        f"{line[0]} {line[1:]}"
        for line in unified_diff(_course(old), _course(new), lineterm="", n=0)
        if line[0] in "+-" and not line.startswith(("+++", "---"))
    ]
    old_members, new_members = _members(old), _members(new)
    for kind in sorted(old_members.keys() & new_members.keys()):
        found += _listed(f"{kind}: -", old_members[kind] - new_members[kind], _parents(new_members[kind]))
        found += _listed(f"{kind}: +", new_members[kind] - old_members[kind], _parents(old_members[kind]))
    return found


def _listed(head: str, members: set[str], known: set[str]) -> list[str]:
    """One line; of an object that is new as a whole only its name."""
    short = {next((part for part in _ways(member) if part not in known), member) for member in members}
    return [f"{head} {', '.join(sorted(short))}"] if short else []


def _parents(members: set[str]) -> set[str]:
    return {part for member in members for part in _ways(member)}


def _ways(member: str) -> list[str]:
    """``a.b.c`` → ``a``, ``a.b``, ``a.b.c``."""
    parts = member.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _is_json(text: str) -> bool:
    return text.lstrip()[:1] in ("{", "[")


def _values(text: str) -> Iterator[Any]:
    """Every JSON value in the text, whether one a line or one over many lines."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] in "{[":
            value, at = decoder.raw_decode(text, at)
            yield value
        else:  # a line that is no JSON
            end = text.find("\n", at)
            at = len(text) if end < 0 else end


def _course(values: Iterable[Any]) -> list[str]:
    """The kinds of lines in their order, each repetition once."""
    return [kind for kind, _ in groupby(map(kind_of, values))]


def kind_of(value: Any) -> str:
    if not isinstance(value, dict):
        return type(value).__name__
    inner = next((value[name] for name in ("event", "item") if isinstance(value.get(name), dict)), {})
    delta = inner.get("delta")
    parts = [value.get("type"), value.get("subtype"), inner.get("type"), delta.get("type") if isinstance(delta, dict) else None]
    return "/".join(str(part) for part in parts if part) or "object"


def _members(values: Iterable[Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for value in values:
        found[kind_of(value)].update(_paths(value, ""))
    return found


def _paths(value: Any, path: str) -> Iterator[str]:
    match value:
        case dict():
            for name, part in value.items():
                shown = "*" if path in BY_MODEL else name
                yield from _paths(part, f"{path}.{shown}" if path else shown)
        case list():
            for part in value:
                yield from _paths(part, f"{path}[]") if isinstance(part, dict | list) else iter((f"{path}[]",))
        case _:
            yield f"{path} = {value!r}" if path.rpartition(".")[2] in TOLD else path
