"""Prices of models."""

from __future__ import annotations

import pytest

from services.ledger.prices import Price, Prices
from services.usage import Usage


def price(amount: float) -> Price:
    return Price(input=amount, output=amount, cached=amount)


PRICES = Prices({"*": price(1), "gpt-*": price(2), "GPT-5*": price(3), "codex/gpt-5*": price(4), "gemini/*": price(5)})


@pytest.mark.parametrize(
    ("backend", "models", "amount"),
    [
        ("codex", ("gpt-5-mini",), 4),
        ("other", ("gpt-5-mini",), 3),
        ("other", ("Gpt-4",), 2),
        ("other", ("o3",), 1),
        ("gemini", (None,), 5),
        ("codex", (None,), 1),
        ("gemini", ("gpt-5",), 5),
    ],
)
def test_the_longest_pattern_that_matches_counts(backend: str, models: tuple[str | None, ...], amount: float) -> None:
    assert PRICES.find(backend, *models) == price(amount)


def test_without_a_pattern_that_matches_there_is_no_price() -> None:
    assert Prices({"gpt-*": price(2)}).find("claude", "sonnet", None) is None
    assert Prices().find("claude", "sonnet") is None


def test_the_first_model_with_a_price_counts() -> None:
    assert Prices({"gpt-5": price(2)}).find("codex", "gpt-5-2026-01-01", "gpt-5") == price(2)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(1_000_000, 0, 0), 2.0),
        (Usage(1_000_000, 0, 1_000_000), 0.5),
        (Usage(1_000_000, 500_000, 400_000), 0.6 * 2 + 0.4 * 0.5 + 0.5 * 8),
        (Usage(0, 0, 0), 0.0),
        (Usage(10, 0, 20), 10 * 0.5 / 1_000_000),  # more cached than there was: all of it was
    ],
)
def test_cached_tokens_have_a_price_of_their_own(usage: Usage, cost: float) -> None:
    assert Price(input=2, output=8, cached=0.5).of(usage) == pytest.approx(cost)
