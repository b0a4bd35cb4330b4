"""YAML's syntax errors in plain words: the parser's own speak of its states."""

from __future__ import annotations

import re

import yaml

PLAIN: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), sentence)
    for pattern, sentence in (
        (r"found character '\\t'", "a tab is not allowed here; indent with spaces"),
        (r"found character '(.)' that cannot start", r"a text that begins with \1 needs quotes"),
        (
            r"mapping values are not allowed",
            "a colon is not allowed here; put a text that contains ': ' in quotes, or correct the indentation",
        ),
        (r"found unexpected end of stream", "a quote is not closed"),
        (r"expected ',' or '(.)', but got", r"a comma or the closing \1 is missing"),
        (r"expected <block end>", "this does not continue the lines above; correct the indentation, or put the whole text in quotes"),
        (r"could not find expected ':'", "a line before this one has no colon after its key"),
        (r"found unhashable key", "a text that begins with { needs quotes"),
        (r"found undefined alias", "a text that begins with * needs quotes"),
        (r"found unknown escape character", "a backslash is not allowed here; use single quotes, or write it twice"),
        (r"special characters are not allowed", "a control character is not allowed"),
    )
)
"""What the parser reports, and what to write instead."""


def place_of(error: yaml.YAMLError) -> str:
    """``:line:column``, counted from 1; empty where the parser names none."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def sentence_of(error: yaml.YAMLError) -> str:
    """One sentence that says what to change."""
    text = str(getattr(error, "problem", None) or error).replace("\n", " ")
    for pattern, sentence in PLAIN:
        if found := pattern.search(text):
            return found.expand(sentence)
    return text
