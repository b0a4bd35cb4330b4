"""The size of a request. What needs a real connection is in test_connections."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest

from tests.unit.app.parts import PREFIXES, ask, shared_app

LIMIT = 1000
JSON = {"Content-Type": "application/json"}


def send(size: int, path: str = "/api/v1/echo", *, chunked: bool = False) -> Any:
    app = shared_app(max_request_body_bytes=LIMIT)
    if not chunked:
        return ask(app, path, JSON, method="POST", data=b" " * size)
    body = {"wsgi.input": BytesIO(b" " * size), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return ask(app, path, JSON, method="POST", environ_overrides=body)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("size", "status"), [(0, 200), (LIMIT, 200), (LIMIT + 1, 413), (100 * LIMIT, 413)])
def test_a_body_over_the_limit_is_413(size: int, status: int, chunked: bool) -> None:
    answer = send(size, chunked=chunked)
    assert answer.status_code == status
    if status == 200:
        assert answer.get_json()["bytes"] == size


@pytest.mark.parametrize("surface", PREFIXES)
def test_413_in_the_words_of_the_surface(surface: str) -> None:
    for chunked in (False, True):
        answer = send(2 * LIMIT, f"{PREFIXES[surface]}/echo", chunked=chunked)
        assert answer.status_code == 413
        assert "request_too_large" in answer.text
        assert "server.max_request_body_bytes" in answer.text


class Unread(BytesIO):
    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")


@pytest.mark.parametrize("declared", ["5000", "9" * 5000, "10"])
def test_nothing_is_read_of_a_body_that_is_too_large_or_whose_sender_has_no_key(declared: str) -> None:
    app = shared_app("right", max_request_body_bytes=LIMIT)
    answer = ask(app, "/api/v1/echo", JSON, method="POST", environ_overrides={"wsgi.input": Unread(), "CONTENT_LENGTH": declared})
    assert answer.status_code == (401 if declared == "10" else 413)


@pytest.mark.parametrize("declared", ["-5", "x", "\xb2", "5000.0"])
def test_a_content_length_that_is_no_number_is_no_way_around_the_limit(declared: str) -> None:
    app = shared_app(max_request_body_bytes=LIMIT)
    body = {"wsgi.input": BytesIO(b" " * 5000), "CONTENT_LENGTH": declared}
    assert ask(app, "/api/v1/echo", JSON, method="POST", environ_overrides=body).get_json()["bytes"] == 0
