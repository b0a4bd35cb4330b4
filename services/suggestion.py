"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def close_match(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The known name that ``name`` most likely misspells; None if none has that `difflib` ratio."""
    by_folded = {item.lower(): item for item in sorted(known)}
    close = get_close_matches(name.lower(), by_folded, n=1, cutoff=likeness)
    return by_folded[close[0]] if close else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """``did you mean 'x'?``, or the empty string."""
    match = close_match(name, known)
    return f"did you mean {match!r}?" if match else ""
