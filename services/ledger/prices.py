"""What models cost, for CLIs that do not report it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from services.usage import Usage

MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cached: float
    """Of input tokens that the vendor's prompt cache had."""

    def of(self, usage: Usage) -> float:
        cached = min(usage.cached_tokens, usage.input_tokens)
        fresh = usage.input_tokens - cached
        return (fresh * self.input + cached * self.cached + usage.output_tokens * self.output) / MILLION


class Prices:
    """A table of patterns (fnmatch, without case) of a model or of ``backend/model``. Of several that match, the longest counts."""

    def __init__(self, table: Mapping[str, Price] | None = None) -> None:
        patterns = sorted((table or {}).items(), key=lambda item: (-len(item[0]), item[0]))
        self._patterns = tuple((pattern.lower(), price) for pattern, price in patterns)

    def find(self, backend: str, *models: str | None) -> Price | None:
        """The price of the first of ``models`` that has one. None stands for a model that is not known: only patterns of its backend
        match it."""
        return next((price for model in models if (price := self._find(backend, model))), None)

    def _find(self, backend: str, model: str | None) -> Price | None:
        names = [f"{backend}/{model or ''}".lower()]
        if model:
            names.append(model.lower())
        return next((price for pattern, price in self._patterns if any(fnmatchcase(name, pattern) for name in names)), None)
