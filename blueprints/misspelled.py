"""Misspelled fields of the compatible surfaces. They accept unknown fields, as the vendors' clients expect of a server that is older
than they are; one that almost has the name of a known field is reported, because its writer believes that it has an effect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from services.suggestion import close_match

NAME = re.compile(r"[A-Za-z0-9_.-]{2,64}")
"""Other names are in no header."""
LIKENESS = 0.85
"""High: `parallel_tool_calls` is not a misspelled `max_tool_calls`."""
EXAMINED_LIMIT = 20
"""Maximum number of unknown fields that are compared with the known ones."""


def misspelled(body: Mapping[str, Any], known: Iterable[str]) -> dict[str, str]:
    """The fields of ``body`` that are almost called as a field of ``known`` that is not there, each with that field's name."""
    names = frozenset(known)
    unknown = [*islice((name for name in body if name not in names and NAME.fullmatch(name)), EXAMINED_LIMIT)]
    if not unknown:
        return {}
    absent = {_plain(name): name for name in names - body.keys()}
    close = {name: close_match(_plain(name), absent, likeness=LIKENESS) for name in unknown}
    return {name: absent[plain] for name, plain in close.items() if plain}


def _plain(name: str) -> str:
    """``maxTokens``, ``max-tokens`` and ``max_tokens`` are the same mistake."""
    return re.sub(r"[_.-]", "", name).lower()
