"""Where an answer's blocks end, for rendering them one by one."""

from __future__ import annotations

import pytest

from app.cli.client.answer import split_blocks


@pytest.mark.parametrize(
    ("text", "complete", "rest"),
    [
        ("", "", ""),
        ("one line\n", "", "one line\n"),
        ("one\n\ntw", "one\n\n", "tw"),
        ("a\n\nb\n\nc", "a\n\nb\n\n", "c"),
        ("a\n\n```\nx\n\ny\n", "a\n\n", "```\nx\n\ny\n"),
        ("```\nx\n\ny\n```\n\nz", "```\nx\n\ny\n```\n\n", "z"),
        ("```\nx\n\ny", "", "```\nx\n\ny"),
    ],
)
def test_a_block_ends_at_a_blank_line_outside_of_code(text: str, complete: str, rest: str) -> None:
    assert split_blocks(text) == (complete, rest)
