"""Every placeholder is filled once, and what fills it is text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.compose.placeholders import fill, references

NAMES = {"a": 0, "b": 1, "c": 2}
PARTS = st.one_of(
    st.text(alphabet=st.characters(exclude_characters="{}\\", exclude_categories=["Cs"])).map(lambda text: (text, None)),
    st.sampled_from(
        [
            ("{{previous}}", 1),
            ("{{ previous }}", 1),
            ("{{steps.a.output}}", 0),
            ("{{steps.b.output}}", 1),
            ("\\{{previous}}", "{{previous}}"),
        ]
    ),
)
OUTPUT = st.one_of(st.text(), st.sampled_from(["{{previous}}", "{{steps.a.output}}", "\\{{previous}}", "\\1 \\g<0>", "}}", "{{"]))


@given(st.lists(PARTS), st.tuples(OUTPUT, OUTPUT))
def test_every_placeholder_is_filled_once_and_the_rest_is_untouched(parts: list[tuple[str, object]], said: tuple[str, str]) -> None:
    prompt = "".join(written for written, _ in parts)
    expected = "".join(said[meant] if isinstance(meant, int) else written if meant is None else str(meant) for written, meant in parts)
    assert fill(prompt, 2, NAMES, lambda index: said[index]) == expected
    assert list(references(prompt, 2, NAMES)) == [meant for _, meant in parts if isinstance(meant, int)]
