"""A JSON text has exactly the values that are counted in it, wherever its slices end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints import json_limits
from tests.unit.blueprints.test_json_limits import is_taken

HARD = st.sampled_from(['a"b', "\\", '\\"[,{', "[[]]", '{"a":[1,2]}', ",", "é\n", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | HARD | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(HARD | st.text(), inner, max_size=4),
)


def values_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(values_of, inner))


@given(JSON, st.integers(1, 20), st.sampled_from([None, 1]), st.booleans())
def test_exactly_the_values_are_counted(value: Any, slice_bytes: int, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_limits, "SLICE_BYTES", slice_bytes)
        patch.setattr(json_limits, "VALUES_LIMIT", values_of(value))
        assert is_taken(text)
        patch.setattr(json_limits, "VALUES_LIMIT", values_of(value) - 1)
        assert not is_taken(text)
