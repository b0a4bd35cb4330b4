"""A JSON text's values and depth are counted before it is parsed, wherever its slices end."""

from __future__ import annotations

import pytest

from blueprints.json_limits import check_json
from services.errors import InvalidRequest


def is_taken(text: bytes) -> bool:
    try:
        for _ in check_json(text):
            pass
    except InvalidRequest:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        (b"[" * 100 + b"]" * 100, True),
        (b"[" * 101 + b"]" * 101, False),
        (b'{"a":' * 100 + b"1" + b"}" * 100, True),
        (b'{"a":' * 101 + b"1" + b"}" * 101, False),
        (b'["' + b"[" * 200 + b'"]', True),
        (b"[" + b",".join([b"1"] * 99_999) + b"]", True),
        (b"[" + b",".join([b"1"] * 100_000) + b"]", False),
        (b"[" + b",".join([b"[]"] * 99_999) + b"]", True),
        (b'{"a":"' + b"x" * 10_000_000 + b'"}', True),
    ],
)
def test_the_limits(text: bytes, taken: bool) -> None:
    assert is_taken(text) is taken


@pytest.mark.parametrize("text", [b"[] []", b"]]]", b'"\\', b"\\", b'["', b"", b"\xff", b"[]" * 200_000])
def test_what_is_no_json_is_left_to_the_parser(text: bytes) -> None:
    assert is_taken(text)
