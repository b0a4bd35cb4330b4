"""The server's secret: one for all of a home folder, and only the server's user may read it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.errors import StoreUnavailable
from services.server_secret import SECRET_BYTES, ServerSecret


def test_everyone_of_one_home_gets_the_same_secret_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "server-secret"
    with ThreadPoolExecutor(8) as pool:
        values = set(pool.map(lambda _: ServerSecret(str(path)).value(), range(16)))
    assert [len(value) for value in values] == [SECRET_BYTES]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in path.parent.iterdir()] == ["server-secret"]
    assert ServerSecret(str(tmp_path / "other" / "server-secret")).value() not in values


@pytest.mark.parametrize("text", ["", "abcd", "no hexadecimal digits"])
def test_a_secret_that_is_none_is_refused_and_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server-secret"
    path.write_text(text)
    with pytest.raises(StoreUnavailable, match="server-secret cannot be used"):
        ServerSecret(str(path)).value()
    assert path.read_text() == text
