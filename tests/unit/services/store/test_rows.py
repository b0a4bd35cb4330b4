"""What a column holds, without a database."""

from __future__ import annotations

import json

import pytest

from services.store.rows import dumped

E_ACUTE = "é" * 1000
LONE_SURROGATE = "\ud800"


def test_stored_json_keeps_the_size_of_its_characters() -> None:
    """Escaped, each of them would take six bytes: 10 MB became 30, and held the event loop three times as long."""
    text = dumped({"system": E_ACUTE})
    assert len(text.encode()) < 2 * len(E_ACUTE) + 100
    assert json.loads(text) == {"system": E_ACUTE}


@pytest.mark.parametrize("value", [{"key": LONE_SURROGATE}, [LONE_SURROGATE + "é"], {LONE_SURROGATE: 1}])
def test_stored_json_is_utf8_whatever_a_caller_sent(value: object) -> None:
    assert json.loads(dumped(value).encode().decode()) == value
