"""The backend of a request that names none, and what the server says where it cannot be used."""

from __future__ import annotations

import os

import pytest

from tests.conftest import ServerFactory
from tests.parts.server import Server

NO_CLI = {"PATH": os.defpath}
MESSAGES = [{"role": "user", "content": "hi"}]
NOT_THERE = "'claude' is not available: 'claude' was not found on PATH; install it with"
DEFAULT_NOT_THERE = "The default backend, 'claude', is not available: 'claude' was not found on PATH; install it with"


@pytest.fixture
def bare(server: ServerFactory) -> Server:
    """A server on a machine without any CLI."""
    return server({}, NO_CLI)


def message_of(server: Server, path: str, body: dict[str, object]) -> str:
    answer = server.client.post(path, body)
    assert answer.status in (503, 529)
    message = answer.json["error"]["message"]
    assert message.endswith("Available: demo")
    return str(message)


def test_an_error_names_what_was_selected_and_why_and_what_is_available(bare: Server) -> None:
    without = message_of(bare, "/api/v1/prompt", {"prompt": "hi"})
    assert without.startswith(f"the request names no backend. {DEFAULT_NOT_THERE}")
    assert message_of(bare, "/api/v1/prompt", {"prompt": "hi", "backend": "claude"}).startswith(f"backend {NOT_THERE}")
    chat = {"model": "dmeo", "messages": MESSAGES}
    for path, more in (("/openai/v1/chat/completions", {}), ("/anthropic/v1/messages", {"max_tokens": 10})):
        message = message_of(bare, path, chat | more)
        typo = "model 'dmeo' names no backend and no available backend claims it; did you mean 'demo'?"
        assert message.startswith(f"{typo} {DEFAULT_NOT_THERE}")
    unknown = bare.client.post("/api/v1/prompt", {"prompt": "hi", "backend": "cluade"}).json["error"]["message"]
    assert unknown == "unknown backend 'cluade'; did you mean 'claude'? configured: claude, codex, demo, gemini"
    assert bare.client.get("/health").json["status"] == "degraded"
    assert [model["id"] for model in bare.client.get("/openai/v1/models").json["data"]] == ["demo", "demo/demo-1"]


def test_without_a_default_the_first_available_backend_answers(server: ServerFactory) -> None:
    one = server({"backends": {"house": {"command": "cat", "models": ["tabby"], "aliases": {"fast": "tabby"}}}}, NO_CLI)
    answer = one.client.post("/api/v1/prompt", {"prompt": "here"}).json
    assert (answer["backend"], answer["output"]) == ("house", "here")
    chat = one.client.post("/openai/v1/chat/completions", {"model": "llama-3", "messages": MESSAGES})
    assert (chat.headers["X-Clinvk-Backend"], chat.json["model"]) == ("house", "llama-3")
    defaults = {backend["name"]: backend["is_default"] for backend in one.client.get("/api/v1/backends").json["backends"]}
    assert defaults == {"claude": False, "codex": False, "gemini": False, "demo": False, "house": True}
    assert one.client.get("/health").json["status"] == "ok"
    ids = [model["id"] for model in one.client.get("/openai/v1/models").json["data"]]
    assert ids[0] == "house"
    assert not [name for name in ids if "demo" in name or "fast" in name]
    every = [model["id"] for model in one.client.get("/openai/v1/models?all=true").json["data"]]
    assert {"fast", "house/fast", "demo"} <= set(every)
