"""Inputs: any JSON, JSON that fits a shape more or less, and texts that somebody would attack with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hypothesis import strategies as st

HOSTILE = (
    "", " ", "-", "--", "--help", "-c", "--model=x", "=", "{}", "{file}", "{json}", "{run_dir}", "\x00", "a\x00b", "\n--yolo", "\r\n",
    "\u2028", "\u2029", "\ufeff", "/", "/etc/passwd", "../..", "@/etc/passwd", "/cost", "!{id}", "{{args}}", "$(id)", "`id`", "';--", "%s",
    "</turn>", "data: x\n\n", "é漢字🙂", "\x7f\x1b[2J", "null", "0",
)  # fmt: skip

texts = st.sampled_from(HOSTILE) | st.text(max_size=40)
"""Without surrogates: JSON that carries half a pair is refused before anything else sees it."""

unruly_texts = texts | st.text(st.characters(), max_size=20) | st.builds(lambda a, b: a + b, texts, st.sampled_from(HOSTILE))
"""Surrogates as well."""

scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts

json_values = st.recursive(scalars, lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4), max_leaves=8)

json_objects = st.dictionaries(texts, json_values, max_size=4)


def loosely(required: Mapping[str, st.SearchStrategy[Any]], optional: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Objects with these members, of which one may be anything else."""
    plain = st.fixed_dictionaries(dict(required), optional=dict(optional))
    return plain | st.builds(
        lambda value, name, wrong: value | {name: wrong}, plain, st.sampled_from([*required, *optional]), json_values | scalars
    )


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


T = TypeVar("T")
E = TypeVar("E", bound=Exception)


def tried(kind: type[E], call: Callable[[], T]) -> T | E:
    """What ``call`` gives, or its refusal; any other error is the test's failure."""
    try:
        return call()
    except kind as error:
        return error
