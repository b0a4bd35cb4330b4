"""The JavaScript clients: OpenAI's own SDK, and the Vercel AI SDK."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.node import run_node
from tests.clients.openai.conftest import House
from tests.parts.clis import do, told

STRIKE = [["say", "as far as"], ["fail", "the model is on strike"]]


def test_openai_sdk(house: House) -> None:
    about = "node openai"
    found = run_node("openai.mjs", house.url, do(*STRIKE, about=about))
    assert "You said: hello" in found["create"]["text"]
    assert (found["create"]["finish"], found["create"]["model"]) == ("stop", "demo")
    assert found["create"]["requestId"].startswith("req_")
    assert len(found["stream"]["pieces"]) > 3
    assert "".join(found["stream"]["pieces"]) == found["stream"]["text"] == found["create"]["text"]
    assert found["stream"]["usage"] == found["create"]["usage"]
    assert "my name is Ada" in found["conversation"]
    assert found["response"] == {"text": found["create"]["text"], "status": "completed"}
    assert "".join(found["responseStream"]) == found["create"]["text"]
    assert found["continued"] == "completed"
    assert {"demo", "claude"} <= set(found["models"])
    errors = found["errors"]
    assert {name: (error["name"], error.get("status"), error["code"]) for name, error in errors.items()} == {
        "tools": ("BadRequestError", 400, "invalid_request"),
        "model": ("NotFoundError", 404, "model_not_found"),
        "missing": ("InternalServerError", 503, "backend_unavailable"),
        "previous": ("BadRequestError", 400, "previous_response_not_found"),
        "failed": ("InternalServerError", 502, "backend_error"),
        "streamed": ("APIError", None, "backend_error"),
        "responseFailed": ("InternalServerError", 502, "backend_error"),
        "responseStreamed": ("APIError", None, "backend_error"),
    }
    assert "the model is on strike" in errors["streamed"]["message"]
    assert len(house.processes(about)) == 4


def test_openai_sdk_with_stored_responses(house: House) -> None:
    found = run_node("openai-responses.mjs", house.url, do(["say", "so far"], ["hang"]))
    assert found["polled"] == {"first": "queued", "last": "completed", "text": "You said: hello"}
    assert found["resumed"] == list(range(len(found["resumed"])))
    assert found["helper"] == "You said: hello again"
    assert (found["cancelled"], found["cancelledAgain"], found["continued"]) == ("cancelled", "cancelled", "completed")
    assert found["items"] == [{"type": "message", "text": "hello"}]
    assert (found["deleted"]["name"], found["deleted"]["status"]) == ("NotFoundError", 404)
    assert (found["foreground"]["name"], found["foreground"]["status"]) == ("BadRequestError", 400)


@pytest.fixture(scope="module")
def ai_sdk(whole_house: House) -> Any:
    return run_node("ai-sdk-openai.mjs", whole_house.url, do(*STRIKE, about="vercel ai"))


@pytest.mark.parametrize("route", ["responses", "chat"])
def test_vercel_ai_sdk(house: House, ai_sdk: Any, route: str) -> None:
    found = ai_sdk[route]
    assert "You said: hello" in found["generate"]["text"]
    assert found["generate"]["finish"] == found["stream"]["finish"] == "stop"
    assert (found["generate"]["usage"]["outputTokens"], found["stream"]["usage"]["outputTokens"]) == (25, 19)
    pieces = found["stream"]["pieces"]
    assert len(pieces) > 3
    assert "".join(pieces) == found["stream"]["text"]
    assert "and who am I, AI SDK?" in found["conversation"]
    errors = found["errors"]
    assert (errors["image"]["name"], errors["image"]["status"]) == ("AI_APICallError", 400)
    assert (errors["failed"]["name"], errors["failed"]["status"]) == ("AI_APICallError", 502)
    assert "the model is on strike" in errors["streamed"]["message"]
    assert len(house.processes("vercel ai")) == 4  # two a route: the SDK's own retries are switched off, they heed no header


def test_answer_of_the_ai_sdk_goes_on_in_the_session_or_in_full(house: House, ai_sdk: Any) -> None:
    in_session, in_full = sorted(map(told, house.processes("and who am I, AI SDK?")), key=len)
    assert in_session == "and who am I, AI SDK?"  # /responses: a reference to the item of the first answer
    assert in_full.index("my name is Ada") < in_full.index("You said:") < in_full.index("and who am I, AI SDK?")
