"""Paths of guessed base URLs: each answers as the route that it stands for, errors included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.app.parts import ask, make_app, shared_app

VERSION = {"anthropic-version": "2023-06-01"}

ANTHROPIC_POSTS = [
    "/v1/messages",
    "/v1/v1/messages",
    "/anthropic/v1/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/v1/messages/count_tokens",
]
OPENAI_POSTS = [
    f"{base}{path}"
    for base in ("/v1", "/v1/v1", "/openai", "")
    for path in ("/chat/completions", "/responses", "/chat/completions/", "/responses/")
]
POSTS = [*((path, "anthropic") for path in ANTHROPIC_POSTS), *((path, "openai") for path in OPENAI_POSTS)]
MODELS = ["/v1/models", "/openai/models", "/models"]


def dialect(answer: Any) -> str:
    """By the form of an error."""
    body = answer.get_json()
    if "meta" in body:
        return "native"
    if body.get("type") == "error":
        assert body["request_id"] == answer.headers["request-id"]
        return "anthropic"
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return "openai"


@pytest.mark.parametrize("headers", [{}, VERSION], ids=["plain", "anthropic-version"])
@pytest.mark.parametrize(("path", "expected"), POSTS)
def test_errors_are_in_the_dialect_of_the_path(path: str, expected: str, headers: dict[str, str]) -> None:
    app = shared_app()
    refused = ask(app, path, headers, method="POST", json={})
    assert (refused.status_code, dialect(refused)) == (400, expected)
    other_method = ask(app, path, headers)
    assert (other_method.status_code, dialect(other_method)) == (405, expected)
    assert "POST" in other_method.headers["Allow"]


@pytest.mark.parametrize(("path", "expected"), POSTS)
def test_a_key_is_needed_where_the_route_needs_one(path: str, expected: str) -> None:
    app = shared_app("right")
    assert (answer := ask(app, path, method="POST", json={})).status_code == 401
    assert dialect(answer) == expected
    assert ask(app, path, {"X-Api-Key": "right"}, method="POST", json={}).status_code == 400


@pytest.mark.parametrize("path", MODELS)
def test_the_list_of_models_needs_a_key(path: str) -> None:
    assert ask(shared_app("right"), path).status_code == 401


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("/v1/nothing", {}, "openai"),
        ("/v1/nothing", VERSION, "anthropic"),
        ("/v1/v1/nothing", VERSION, "anthropic"),
        ("/v1/messages/batches", {}, "anthropic"),
        ("/v1/chat/nothing", {}, "openai"),
        ("/openai/nothing", {}, "openai"),
        ("/anthropic/nothing", {}, "anthropic"),
        ("/nothing", {}, "native"),
        ("/v1x", {}, "native"),
        ("/modelsx", {}, "native"),
    ],
)
def test_an_unknown_path_names_both_base_urls(path: str, headers: dict[str, str], expected: str) -> None:
    answer = ask(shared_app(), path, headers, method="POST", json={})
    assert (answer.status_code, dialect(answer)) == (404, expected)
    message = answer.get_json()["error"]["message"]
    assert "http://HOST:PORT/openai/v1," in message
    assert "http://HOST:PORT/anthropic;" in message


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/api/v1/promt", "/api/v1/prompt"),
        ("/api/prompt", "/api/v1/prompt"),
        ("/api/v2/backends", "/api/v1/backends"),
        ("/api/v1/session/b7a3ee61", "/api/v1/sessions/b7a3ee61"),
        ("/api/v1/sessions/b7a3ee61/turn", "/api/v1/sessions/b7a3ee61/turns"),
        ("/api/v1/embeddings", None),
        ("/api/v1/chat/completions", None),
        ("/api/v1/" + "prompt" * 100, None),
    ],
)
def test_an_unknown_native_path_names_the_nearest_native_route_and_no_base_url(path: str, near: str | None) -> None:
    message = ask(shared_app(), path, method="POST", json={}).get_json()["error"]["message"]
    assert message == f"unknown path; {f'did you mean {near}? ' if near else ''}/openapi.json lists all paths"


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/prompt", "/api/v1/prompt"),
        ("/helth", "/health"),
        ("/openai/v1/chat/completion", "/openai/v1/chat/completions"),
        ("/anthropic/v1/message", "/anthropic/v1/messages"),
    ],
)
def test_another_unknown_path_names_the_nearest_route_and_the_base_urls(path: str, near: str) -> None:
    message = ask(shared_app(), path, method="POST", json={}).get_json()["error"]["message"]
    assert message.startswith(f"unknown path; did you mean {near}? The base URL of OpenAI clients is http://HOST:PORT/openai/v1, that")


@pytest.mark.parametrize("headers", [{}, VERSION], ids=["plain", "anthropic-version"])
@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1/v1", "/", "/v1/messages", "/v1/v1/messages", *OPENAI_POSTS])
def test_probes_with_head_succeed(path: str, headers: dict[str, str]) -> None:
    answer = ask(shared_app(), path, headers, method="HEAD")
    assert (answer.status_code, answer.data) == (200, b"")


@pytest.mark.parametrize("path", ["/v1/responses", "/openai/responses", "/responses", "/v1/responses/"])
def test_a_websocket_is_refused_so_that_codex_goes_on_with_http(path: str) -> None:
    assert ask(shared_app(), path, {"Connection": "Upgrade", "Upgrade": "websocket"}).status_code == 426


@pytest.mark.parametrize("base", ["", "/v1", "/anthropic", "/anthropic/v1"])
def test_claude_code_reports_are_accepted_below_every_base_url(base: str) -> None:
    answer = ask(shared_app(), f"{base}/api/event_logging/batch", method="POST", json={"events": []})
    assert (answer.status_code, answer.get_json()) == (200, {})


def test_the_document_describes_no_alias() -> None:
    paths = ask(make_app(), "/openapi.json").get_json()["paths"]
    own = {"/", "/health", "/mcp", "/metrics", "/openapi.json"}
    assert all(path in own or path.startswith(("/api/v1/", "/openai/v1/", "/anthropic/v1/")) for path in paths)
    assert not any("/v1/v1" in path for path in paths)
