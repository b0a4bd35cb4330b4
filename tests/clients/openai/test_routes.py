"""The list of models, and what clients ask before they ask anything."""

from __future__ import annotations

import os
import shutil
import sys
import time

import openai
import pytest

from tests.clients.openai.conftest import House
from tests.clients.openai.test_chat import HELLO


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert {"claude", "claude/opus", "demo", "echo"} <= set(ids)
    assert not any(name.startswith("codex") for name in ids)  # it is not installed
    found = client.models.retrieve("claude/opus")
    assert (found.id, found.object, found.owned_by) == ("claude/opus", "model", "claude")
    assert client.models.retrieve("claude-sonnet-4-5").owned_by == "claude"


def test_a_model_is_as_old_as_its_program_is_here(client: openai.OpenAI) -> None:
    """The programs of `claude` and of the demo are the same Python."""
    created = {model.id: model.created for model in client.models.list()}
    assert created["claude"] == created["claude/opus"] == created["demo"] == int(os.stat(sys.executable).st_ctime)
    assert created["echo"] == int(os.stat(shutil.which("cat") or "").st_ctime)
    assert abs(client.models.retrieve("codex").created - time.time()) < 3_600  # not there: the server's own start


@pytest.mark.parametrize(("method", "path", "status"), [
    ("HEAD", "/openai/v1", 200),
    ("HEAD", "/openai/v1/", 200),
    ("HEAD", "/openai/v1/models", 200),
    ("HEAD", "/openai/v1/chat/completions", 200),
    ("HEAD", "/openai/v1/responses/", 200),
    ("GET", "/openai/v1/models/", 200),
    ("GET", "/openai/v1/models/demo/", 200),
    ("GET", "/openai/v1/models?client_version=0.169.0", 200),
])  # fmt: skip
def test_head_and_trailing_slash_surprise_nobody(house: House, method: str, path: str, status: int) -> None:
    assert house.server.client.ask(method, path).status == status


def test_websocket_is_refused_so_that_codex_goes_on_with_http(house: House) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    assert house.server.client.get("/openai/v1/responses", headers=upgrade).status == 426
    assert house.server.client.get("/openai/v1/responses").status == 405


def test_trailing_slash_of_a_post_is_no_redirect(house: House) -> None:
    assert house.server.client.post("/openai/v1/chat/completions/", {"model": "demo", "messages": HELLO}).status == 200
    assert house.server.client.post("/openai/v1/responses/", {"model": "demo", "input": "hello"}).status == 200
