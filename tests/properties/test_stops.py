"""Where an answer is cut at a stop sequence does not depend on the pieces in which it comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.services.test_stops import cut


@given(st.lists(st.text("abX", max_size=4), max_size=20), st.lists(st.text("abX", min_size=1, max_size=4), min_size=1, max_size=4))
def test_however_the_text_is_cut_the_answer_is_the_same(texts: list[str], stops: list[str]) -> None:
    whole = "".join(texts)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    assert cut(texts, *stops)[0] == (whole[: min(ends)[1]] if ends else whole)
