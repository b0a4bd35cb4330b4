"""The placeholders of a chain's prompts."""

from __future__ import annotations

import pytest

from services.compose.placeholders import fill, references


@pytest.mark.parametrize("text", ["{{color: 'red'}}", "{{#if x}}", "{{ a b }}", "{}", "{{}}", "{{previous", "\\{", "${{ a.b || c }}"])
def test_braces_that_hold_no_name_are_text(text: str) -> None:
    assert list(references(text, 0, {})) == []
    assert fill(text, 0, {}, lambda _: "!") == text


def test_a_long_prompt_full_of_braces_is_read_at_once() -> None:
    for hostile in ("{{steps." * 20_000, "{{" * 50_000, "{{ " + " " * 50_000, "{{" + "a" * 50_000, "{{steps." + " " * 50_000):
        assert list(references(hostile, 1, {})) == []
