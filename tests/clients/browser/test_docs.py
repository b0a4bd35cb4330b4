"""`/docs` in Chromium with no network but loopback: it lists every route, and its "Try it out" gets an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.openapi import EXAMPLES
from tests.clients.browser.chromium import Chromium
from tests.parts.server import Server

StartServer = Callable[..., Server]

KEY = "a-key-of-the-tests-0123456789"
PROMPT = "#operations-native-post_api_v1_prompt"
ANSWER = f"{PROMPT} .live-responses-table"
SHOWN_ROUTES = """[...document.querySelectorAll(".opblock")].map(block => [
    block.querySelector(".opblock-summary-method").innerText.toLowerCase(),
    block.querySelector(".opblock-summary-path").dataset.path])"""


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path) as one:
        yield one


def open_docs(chromium: Chromium, server: Server) -> None:
    assert not chromium.open(f"{server.url}/docs")
    chromium.wait_for('document.querySelectorAll(".opblock").length')


def try_prompt(chromium: Chromium, prompt: str | None = None) -> str:
    """Ask the demo backend through the form of POST /api/v1/prompt; what the answer's table shows. No ``prompt``: the form's own."""
    if not chromium.ask(f"!!document.querySelector('{PROMPT} .try-out__btn')"):
        chromium.click(f"{PROMPT} .opblock-summary-control")
    if not chromium.ask(f"!!document.querySelector('{PROMPT} textarea.body-param__text')"):
        chromium.click(f"{PROMPT} .try-out__btn")
    if prompt:
        chromium.type_into(f"{PROMPT} textarea.body-param__text", json.dumps({"backend": "demo", "prompt": prompt}))
    chromium.click(f"{PROMPT} button.execute")
    chromium.wait_for(f"document.querySelector('{ANSWER}') && !document.querySelector('{PROMPT} .loading-container')")
    return chromium.text(ANSWER)


def assert_all_came_from(server: Server, chromium: Chromium) -> None:
    elsewhere = [url for url in chromium.requested if not url.startswith((f"{server.url}/", "data:", "about:"))]
    assert not elsewhere
    assert len(chromium.requested) > 3


def documented(server: Server) -> set[tuple[str, str]]:
    paths: dict[str, dict[str, Any]] = server.client.get("/openapi.json").json["paths"]
    return {(method, path) for path, methods in paths.items() for method in methods if method in ("get", "post", "put", "patch", "delete")}


def test_browser_of_these_tests_reaches_loopback_alone(chromium: Chromium) -> None:
    assert chromium.open("http://192.0.2.1/") == "net::ERR_PROXY_CONNECTION_FAILED"
    assert chromium.open("https://example.com/") == "net::ERR_PROXY_CONNECTION_FAILED"


def test_docs_list_every_route_with_assets_of_ours_alone(server: StartServer, chromium: Chromium) -> None:
    one = server()
    open_docs(chromium, one)
    assert {tuple(route) for route in chromium.ask(SHOWN_ROUTES)} == documented(one)
    assert_all_came_from(one, chromium)
    assert not chromium.errors


def test_the_root_leads_a_browser_to_the_documentation(server: StartServer, chromium: Chromium) -> None:
    assert not chromium.open(f"{server().url}/")
    chromium.wait_for('document.querySelectorAll(".opblock").length')
    assert chromium.ask("location.pathname") == "/docs"


@pytest.mark.parametrize("prompt", ["Say hello to the browser", None], ids=["typed", "as-it-stands"])
def test_try_it_out_on_prompt_shows_the_demos_answer(server: StartServer, chromium: Chromium, tmp_path: Path, prompt: str | None) -> None:
    one = server()
    open_docs(chromium, one)
    shown = try_prompt(chromium, prompt)
    chromium.screenshot(tmp_path / "docs.png")
    expected = one.client.prompt("demo", prompt or "Say hello").json["output"]
    assert "200" in shown
    assert json.dumps(expected, ensure_ascii=False) in shown
    assert_all_came_from(one, chromium)
    assert not chromium.errors


def test_every_example_is_answered_as_it_stands(server: StartServer) -> None:
    """What "Try it out" begins with can be executed at once."""
    one = server()
    session = one.client.post("/api/v1/sessions", EXAMPLES["/api/v1/sessions"]).json["id"]
    for path, body in EXAMPLES.items():
        answer = one.client.post(path.replace("{session_id}", session), body)
        assert answer.status in (200, 201), (path, answer.json)


@pytest.mark.parametrize("which", ["first-child", "last-child"])
def test_key_given_under_authorize_opens_the_routes(which: str, server: StartServer, chromium: Chromium) -> None:
    one = server({"server": {"api_keys": [f"browser={KEY}"]}})
    open_docs(chromium, one)
    shown = try_prompt(chromium, "hello")
    assert "401" in shown
    assert "authentication_error" in shown
    assert chromium.errors.pop().startswith("Failed to load resource: the server responded with a status of 401")

    chromium.click(".auth-wrapper .authorize")
    chromium.wait_for("document.querySelectorAll('.auth-container').length == 2")
    chromium.type_into(f".auth-container:{which} input", KEY)
    chromium.click(f".auth-container:{which} .authorize")
    chromium.click(".auth-btn-wrapper .btn-done")

    shown = try_prompt(chromium, "hello again")
    assert "200" in shown
    assert "hello again" in shown
    assert not chromium.errors
