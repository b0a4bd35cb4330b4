"""What a search finds a text by."""

from __future__ import annotations

import pytest

from services.store.tokenizer import WORD_CHARS, indexed_words, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Fix the AUTH-bug in src/login_page.py", ["fix", "the", "auth", "bug", "in", "src", "login_page", "py"]),
        ("the the The", ["the"]),
        ("Straße ﬁne", ["strasse", "fine"]),
        ("漢字 and ไทย", ["漢", "字", "and", "ไ", "ท", "ย"]),
        ("🙂 -- ''\" \0", []),
        ("x" * 100, ["x" * WORD_CHARS]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_beginning_of_every_text_is_indexed_and_missing_texts_are_not() -> None:
    assert indexed_words("a " * 10_000 + "late", None, "", "b") == ["a", "b"]
