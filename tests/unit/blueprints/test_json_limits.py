"""A JSON text's values and depth are counted before it is parsed, wherever its slices end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints import json_limits
from blueprints.json_limits import check_json
from services.errors import InvalidRequest

HARD = st.sampled_from(['a"b', "\\", '\\"[,{', "[[]]", '{"a":[1,2]}', ",", "é\n", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | HARD | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HARD | st.text(), inner, max_size=4),
)


def values_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values_of, inner))


def is_taken(text: bytes) -> bool:
    try:
        for _ in check_json(text):
            pass
    except InvalidRequest:
        return False
    return True


@given(JSON, st.integers(1, 20), st.sampled_from([None, 1]), st.booleans())
def test_exactly_the_values_are_counted(value: Any, slice_bytes: int, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_limits, "SLICE_BYTES", slice_bytes)
        patch.setattr(json_limits, "VALUES_LIMIT", values_of(value))
        assert is_taken(text)
        patch.setattr(json_limits, "VALUES_LIMIT", values_of(value) - 1)
        assert not is_taken(text)


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
