"""The message for a path that no route has: the nearest path of its surface, and what else may help there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

from app.api.surfaces import surface_of

BASE_URLS = (
    "the base URL of OpenAI clients is http://HOST:PORT/openai/v1, that of Anthropic clients http://HOST:PORT/anthropic; "
    "/openapi.json lists all paths; embeddings, audio, images, files and legacy completions are not supported"
)
NATIVE = "/openapi.json lists all paths"

PREFIX = re.compile(r"/(api|openai|anthropic)(/v\d+)?(?=/|$)")
"""All paths of a surface have it in common, so it says nothing about which of them is near."""
PARAMETER = re.compile(r"<[^>]*>")
LIKENESS = 0.75
"""The least ratio of two paths that may be meant as one; difflib's default, 0.6, joins `/chat` and `/health`."""
PATH_LIMIT_CHARS = 100
"""A longer path gets no suggestion."""


def unknown_path_message(path: str, rules: Iterable[str]) -> str:
    """``rules``: the routes, as Flask writes them (`/api/v1/sessions/<session_id>`)."""
    near = nearest(path, rules)
    hint = NATIVE if surface_of(path).name == "native" else BASE_URLS
    return f"unknown path; did you mean {near}? {hint[:1].upper()}{hint[1:]}" if near else f"unknown path; {hint}"


def nearest(path: str, rules: Iterable[str]) -> str | None:
    """The route that ``path`` most likely misspells, with the path's own parameters. Below no surface's prefix, of all surfaces."""
    if len(path) > PATH_LIMIT_CHARS:
        return None
    surface = surface_of(path)
    near: list[tuple[float, float, str]] = []
    for rule in rules:
        if not surface.prefix or surface_of(rule) is surface:
            likeness, filled = _compared(path, rule)
            if likeness >= LIKENESS:
                near.append((likeness, _likeness(path, filled), filled))
    return max(near)[2] if near else None


def _compared(path: str, rule: str) -> tuple[float, str]:
    """How alike they are but for the prefix and the rule's parameters, and the rule with the parameters of ``path``."""
    tail = _tail(rule)
    parts, given = tail.split("/"), _tail(path).split("/")
    if "<" not in tail:
        return _likeness("/".join(given), tail), rule
    if len(parts) != len(given):
        return 0.0, rule
    is_parameter = [bool(PARAMETER.fullmatch(part)) for part in parts]
    filled = [own if skip else part for part, own, skip in zip(parts, given, is_parameter, strict=True)]
    names = ("/".join(part for part, skip in zip(side, is_parameter, strict=True) if not skip) for side in (given, parts))
    return _likeness(*names), rule.removesuffix(tail) + "/".join(filled)


def _likeness(one: str, other: str) -> float:
    """The ratio of matching characters, or 0 if it is certainly too low: counting them exactly is slow."""
    matcher = SequenceMatcher(None, one, other)
    return matcher.ratio() if min(matcher.real_quick_ratio(), matcher.quick_ratio()) >= LIKENESS else 0.0


def _tail(path: str) -> str:
    return PREFIX.sub("", path, count=1).rstrip("/") or "/"
