"""API keys at the door."""

from __future__ import annotations

import pytest

from tests.unit.app.parts import PREFIXES, ask, shared_app

OPEN = ["/", "/health", "/health/", "/api/v1/health", "/docs", "/docs/", "/docs/swagger-ui.css", "/docs/start.js", "/openapi.json"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer right"},
        {"Authorization": "bearer  right "},
        {"X-Api-Key": "right"},
        {"Authorization": "Bearer placeholder", "X-Api-Key": "right"},
        {"Authorization": "Bearer right", "X-Api-Key": "placeholder"},
        {"Authorization": "Basic abc", "X-Api-Key": "right"},
    ],
)
def test_a_right_key_is_let_in(headers: dict[str, str]) -> None:
    assert ask(shared_app("right"), "/api/v1/echo", headers).status_code == 200


@pytest.mark.parametrize("surface", PREFIXES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "right"},
        {"Authorization": "Basic right"},
        {"X-Api-Key": "righ"},
        {"X-Api-Key": "right "[:4]},
        {"X-Api-Key": "Right"},
        {"X-Api-Key": "rïght"},
    ],
)
def test_no_key_or_a_wrong_one_is_401(surface: str, headers: dict[str, str]) -> None:
    app = shared_app("right")
    for method, path in (("GET", "/echo"), ("POST", "/echo"), ("HEAD", "/echo"), ("GET", "/unknown"), ("POST", "/chat/completions")):
        answer = ask(app, PREFIXES[surface] + path, headers, method=method)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("path", OPEN)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_public_paths_need_no_key(path: str, method: str) -> None:
    assert ask(shared_app("right"), path, method=method).status_code == 200


@pytest.mark.parametrize("path", ["/docsx", "/healthx", "/api/v1/health/x", "/api/v1/backends", "/docs/../api/v1/echo", "/metrics"])
def test_what_only_looks_public_is_not(path: str) -> None:
    assert ask(shared_app("right"), path).status_code == 401


@pytest.mark.parametrize("path", ["//api/v1/echo", "/docs//../api/v1/echo", "/api//v1/echo"])
def test_no_spelling_of_a_path_gets_around_the_key(path: str) -> None:
    answer = shared_app("right").test_client().open("/", environ_overrides={"PATH_INFO": path}, buffered=True)
    assert answer.status_code in (401, 404)


def test_without_keys_everything_is_open() -> None:
    assert ask(shared_app(), "/api/v1/echo").status_code == 200


def test_options_needs_no_key() -> None:
    answer = ask(shared_app("right"), "/api/v1/echo", method="OPTIONS")
    assert answer.status_code == 200
    assert "POST" in answer.headers["Allow"]


def test_a_wrong_key_is_not_repeated_in_the_answer() -> None:
    assert "s3cret-but-wrong" not in ask(shared_app("right"), "/api/v1/echo", {"X-Api-Key": "s3cret-but-wrong"}).text
