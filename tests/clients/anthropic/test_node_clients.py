"""The JavaScript clients: Anthropic's own SDK, and the Vercel AI SDK."""

from __future__ import annotations

import pytest

from tests.clients.anthropic.conftest import House
from tests.clients.node import run_node
from tests.parts.clis import do


@pytest.mark.parametrize("base", ["", "/v1"])
def test_anthropic_sdk(house: House, base: str) -> None:
    about = f"node{base}"
    found = run_node("anthropic.mjs", house.url + base, do(["say", "as far as"], ["fail", "the model is on strike"], about=about))
    assert "You said: hello" in found["create"]["text"]
    assert (found["create"]["stop"], found["create"]["model"]) == ("end_turn", "demo")
    assert found["create"]["requestId"].startswith("req_")
    assert len(found["stream"]["pieces"]) > 3
    assert "".join(found["stream"]["pieces"]) == found["stream"]["text"] == found["create"]["text"]
    assert found["stream"]["usage"]["output_tokens"] == found["create"]["usage"]["output_tokens"] == 19
    assert (found["events"][0], found["events"][-1]) == ("message_start", "message_stop")
    assert "my name is Ada" in found["conversation"]
    assert found["tokens"] > 0
    assert {"demo", "claude"} <= set(found["models"])
    assert "codex" not in found["models"]  # not installed here
    errors = found["errors"]
    assert [(errors[name]["name"], errors[name]["status"]) for name in ("tools", "model", "missing", "failed")] == [
        ("BadRequestError", 400),
        ("NotFoundError", 404),
        ("ServiceUnavailableError", 503),
        ("InternalServerError", 502),
    ]
    assert errors["failed"]["requestID"]
    assert "the model is on strike" in errors["streamed"]["message"]
    assert len(house.processes(about)) == 2


def test_vercel_ai_sdk(house: House) -> None:
    about = "vercel"
    found = run_node("ai-sdk-anthropic.mjs", f"{house.url}/v1", do(["say", "as far as"], ["fail", "the model is on strike"], about=about))
    assert "You said: hello" in found["generate"]["text"]
    assert (found["generate"]["finish"], found["generate"]["usage"]["outputTokens"]) == ("stop", 25)
    assert found["stream"]["usage"]["outputTokens"] == 19
    assert "".join(found["stream"]["pieces"]) == found["stream"]["text"]
    assert len(found["stream"]["pieces"]) > 3
    assert found["stream"]["finish"] == "stop"
    assert "my name is Ada" in found["conversation"]
    errors = found["errors"]
    assert (errors["tools"]["name"], errors["tools"]["status"]) == ("AI_APICallError", 400)
    assert (errors["failed"]["name"], errors["failed"]["status"]) == ("AI_APICallError", 502)
    assert "the model is on strike" in errors["streamed"]["message"]
    assert len(house.processes(about)) == 2
