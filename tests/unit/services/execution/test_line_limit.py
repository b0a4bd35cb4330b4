from __future__ import annotations

import pytest

from services.execution.line_limit import LineLimit, LineTooLong


@pytest.mark.parametrize("chunks", [[b"1234567890\n"], [b"1234567890\nabc", b"defghij"], [b"\n\n", b"12345", b"67890", b"\n1234567890"]])
def test_a_line_of_the_limit_s_length_passes(chunks: list[bytes]) -> None:
    limit = LineLimit(10)
    for chunk in chunks:
        limit.check(chunk)


@pytest.mark.parametrize("chunks", [[b"12345678901"], [b"x\n12345678901\nx"], [b"1234567890\nabc", b"defghijkl"], [b"12345", b"678901\n"]])
def test_a_longer_line_is_refused_whether_or_not_it_has_ended(chunks: list[bytes]) -> None:
    limit = LineLimit(10)
    *before, last = chunks
    for chunk in before:
        limit.check(chunk)
    with pytest.raises(LineTooLong, match="10 bytes"):
        limit.check(last)
