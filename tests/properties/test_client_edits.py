"""Whatever a client's file looks like: what is written into it can be taken out again, and the rest is not touched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clients import json_text
from app.clients.edit import MISSING, at, drop, put
from app.clients.unreadable import Unreadable

PATHS = [("mcpServers", "clinvk"), ("a", "b", "clinvk"), ("clinvk",)]
ENTRY = {"url": "http://127.0.0.1:8080/mcp", "headers": {"X": "{}, // no comment"}}
LAYOUT = st.lists(st.sampled_from([" ", "\n", "\t", "\r\n  ", "// a line, }\n", "/* a \n block { */"]), max_size=3).map("".join)
NAMES = st.sampled_from(["a", "b", "mcpServers"]) | st.text(max_size=5).filter(lambda name: name != "clinvk")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
OBJECTS = st.recursive(
    st.dictionaries(NAMES, SCALARS, max_size=3),
    lambda inner: st.dictionaries(NAMES, SCALARS | inner | st.lists(inner, max_size=2), max_size=4),
    max_leaves=12,
)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """JSON with comments and trailing commas, laid out at random."""

    def written(value: Any) -> str:
        if isinstance(value, dict):
            inside = [f"{json.dumps(name)}{draw(LAYOUT)}:{draw(LAYOUT)}{written(member)}{draw(LAYOUT)}" for name, member in value.items()]
            return (
                "{" + draw(LAYOUT) + f",{draw(LAYOUT)}".join(inside) + ("," if inside and draw(st.booleans()) else "") + draw(LAYOUT) + "}"
            )
        if isinstance(value, list):
            return "[" + ",".join(draw(LAYOUT) + written(item) for item in value) + draw(LAYOUT) + "]"
        return json.dumps(value)

    return draw(LAYOUT) + written(draw(OBJECTS)) + draw(LAYOUT)


def is_blocked(data: Any, path: tuple[str, ...]) -> bool:
    """Whether something on the way is no object."""
    found = [at(data, path[:end]) for end in range(1, len(path))]
    return any(value is not MISSING and not isinstance(value, dict) for value in found)


@given(documents(), st.sampled_from(PATHS))
def test_an_entry_goes_as_it_came(text: str, path: tuple[str, ...]) -> None:
    if is_blocked(json_text.parse(text), path):
        with pytest.raises(Unreadable, match="is not an object"):
            put(json_text, text, {path: ENTRY})
        return
    after = put(json_text, text, {path: ENTRY})
    assert at(json_text.parse(after), path) == ENTRY
    assert drop(json_text, after, [path], before=text) == text
