"""Every failure is raised by Anthropic's SDK as the class that its user expects, and a run that has started is never repeated."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.clients.anthropic.conftest import House
from tests.clients.anthropic.test_messages import HELLO, PIXEL, ask
from tests.conftest import ServerFactory
from tests.parts.clis import do

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no messages": ({"messages": []}, "messages"),
    "no text": ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    "unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, r"messages\[0\].role"),
    "content of a wrong type": ({"messages": [*HELLO, {"role": "user", "content": 3}]}, r"messages\[1\].content"),
    "unknown block": ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "hologram"),
    "negative max_tokens": ({"max_tokens": -1}, "max_tokens"),
    "model that is no name": ({"model": "--help"}, "model"),
    "tools": ({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}, "tools"),
    "mcp servers": ({"extra_body": {"mcp_servers": [{"type": "url", "url": "http://x"}]}}, "mcp_servers"),
    "schema that the backend cannot honour": ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, "json_schema"),
    "image that the backend cannot take": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}
            ]
        },
        "images",
    ),
    "image to be fetched": (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]}]},
        "does not fetch URLs",
    ),
    "PDF": (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "x"}}],
                }
            ]
        },
        "document",
    ),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_what_is_wrong(client: anthropic.Anthropic, name: str, stream: bool) -> None:
    asked, words = REFUSED[name]
    with pytest.raises(anthropic.BadRequestError, match=words) as raised:
        ask(client, **asked, stream=stream)
    assert raised.value.type == "invalid_request_error"
    assert raised.value.request_id
    assert raised.value.body["request_id"] == raised.value.request_id  # type: ignore[index,call-overload]


@pytest.mark.parametrize("field", ["model", "messages", "max_tokens"])
def test_missing_field_is_named(house: House, field: str) -> None:
    body = {"model": "demo", "messages": HELLO, "max_tokens": 10}
    del body[field]
    answer = house.server.client.post("/anthropic/v1/messages", body)
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert field in answer.json["error"]["message"]


def test_tools_are_fine_where_they_cannot_be_used(client: anthropic.Anthropic) -> None:
    assert ask(client, tools=[{"name": "f", "input_schema": {"type": "object"}}], tool_choice={"type": "none"})


@pytest.mark.parametrize("base", ["", "/v1"])
def test_unknown_model_of_the_list_is_not_found(house: House, base: str) -> None:
    with house.client(base) as client, pytest.raises(anthropic.NotFoundError) as raised:
        client.models.retrieve("no-such-model")
    assert raised.value.type == "not_found_error"


def test_unknown_route_has_the_envelope(house: House) -> None:
    with house.client() as client, pytest.raises(anthropic.NotFoundError):
        client.post("/v1/no/such/thing", cast_to=object)


def test_cli_that_is_not_installed_is_told_as_unavailable(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.InternalServerError, match="no-such-program") as raised:
        ask(client, model="codex/gpt-5")
    assert raised.value.status_code == 503
    assert raised.value.type == "api_error"


FAILURES: dict[str, tuple[list[Any], type[anthropic.APIStatusError], int, str]] = {
    "failed": (["fail", "the model is on strike"], anthropic.InternalServerError, 502, "api_error"),
    "rate limited": (["fail", "Rate limit: slow down", 429], anthropic.RateLimitError, 429, "rate_limit_error"),
    "overloaded": (["fail", "Overloaded", 529], anthropic.InternalServerError, 529, "overloaded_error"),
    "prompt too long": (["fail", "Prompt is too long", 400], anthropic.BadRequestError, 400, "invalid_request_error"),
    "unknown model": (["fail", "There's an issue with the selected model", 404], anthropic.NotFoundError, 404, "not_found_error"),
    "not logged in": (["fail", "Not logged in · Please run /login"], anthropic.InternalServerError, 503, "api_error"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failed_run_is_raised_as_its_class_and_never_repeated(house: House, name: str) -> None:
    step, kind, status, type_ = FAILURES[name]
    about = f"once only: {name}"
    with (
        anthropic.Anthropic(base_url=house.url, api_key="any", max_retries=5) as client,
        pytest.raises(kind, match=str(step[1]).split(":")[0]) as raised,
    ):
        ask(client, do(step, about=about), model="claude")
    assert (raised.value.status_code, raised.value.type) == (status, type_)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(house.processes(about)) == 1


@pytest.mark.parametrize("name", FAILURES)
def test_failure_before_the_first_word_of_a_stream_has_its_own_status(house: House, name: str) -> None:
    step, kind, status, type_ = FAILURES[name]
    about = f"once only, and no word: {name}"
    with anthropic.Anthropic(base_url=house.url, api_key="any", max_retries=5) as client, pytest.raises(kind) as raised:
        ask(client, do(step, about=about), model="claude", stream=True)
    assert (raised.value.status_code, raised.value.type) == (status, type_)
    assert len(house.processes(about)) == 1


@pytest.mark.parametrize("name", FAILURES)
def test_failure_inside_a_stream_is_raised_and_never_repeated(house: House, name: str) -> None:
    step, _, _, type_ = FAILURES[name]
    about = f"once only in a stream: {name}"
    with anthropic.Anthropic(base_url=house.url, api_key="any", max_retries=5) as client:
        prompt = do(["say", "as far as"], step, about=about)
        with client.messages.stream(model="claude", max_tokens=10, messages=[{"role": "user", "content": prompt}]) as stream:
            assert next(iter(stream.text_stream)) == "as far as"
            with pytest.raises(anthropic.APIStatusError) as raised:
                stream.until_done()
    assert raised.value.type == type_
    assert raised.value.body["request_id"] == raised.value.request_id  # type: ignore[index,call-overload]
    assert len(house.processes(about)) == 1


def test_time_limit_is_a_gateway_timeout(server: ServerFactory) -> None:
    slow = server({"default_backend": "demo", "server": {"request_timeout_secs": 0.5}})
    with (
        anthropic.Anthropic(base_url=f"{slow.url}/anthropic", api_key="any", max_retries=5) as client,
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        ask(client, "[[demo tokens=100 delay_ms=1000]]")
    assert (raised.value.status_code, raised.value.type) == (504, "timeout_error")


def test_wrong_and_missing_keys_are_authentication_errors(server: ServerFactory) -> None:
    locked = server({"default_backend": "demo", "server": {"api_keys": ["right-key-0123456789"]}})
    url = f"{locked.url}/anthropic"
    with (
        anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as raised,
    ):
        ask(client)
    assert raised.value.type == "authentication_error"
    for key in ({"api_key": "right-key-0123456789"}, {"auth_token": "right-key-0123456789"}):
        with anthropic.Anthropic(base_url=url, **key) as client:  # type: ignore[arg-type]
            assert ask(client)
    answer = locked.client.post("/anthropic/v1/messages", {"model": "demo"}, headers={"x-api-key": "right-key-0123456789"})
    assert answer.status == 400
    assert locked.client.get("/anthropic/v1/models").status == 401


def test_server_s_own_rate_limit_is_a_rate_limit_error_that_says_when(server: ServerFactory) -> None:
    limits = {"rate_limit_enabled": True, "rate_limit_rps": 0.1, "rate_limit_burst": 1}
    narrow = server({"default_backend": "demo", "server": limits})
    with anthropic.Anthropic(base_url=f"{narrow.url}/anthropic", api_key="any", max_retries=0) as client:
        ask(client)
        with pytest.raises(anthropic.RateLimitError) as raised:
            ask(client)
    assert int(raised.value.response.headers["retry-after"]) > 0
    assert raised.value.response.headers.get("x-should-retry") != "false"
    assert raised.value.type == "rate_limit_error"


def test_strict_names_are_not_found(server: ServerFactory) -> None:
    strict = server({"default_backend": "demo", "server": {"strict_models": True}})
    with anthropic.Anthropic(base_url=f"{strict.url}/anthropic", api_key="any", max_retries=0) as client:
        assert ask(client)
        with pytest.raises(anthropic.NotFoundError, match="no-such-model"):
            ask(client, model="no-such-model")


def test_body_that_is_too_large_is_told_as_such(server: ServerFactory) -> None:
    small = server({"default_backend": "demo", "server": {"max_request_body_bytes": 1000}})
    with (
        anthropic.Anthropic(base_url=f"{small.url}/anthropic", api_key="any", max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError) as raised,
    ):
        ask(client, "x" * 2000)
    assert (raised.value.status_code, raised.value.type) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [("text/plain", b"{}", 415), ("application/json", b"{", 400), ("application/json", b"[]", 400), ("application/json", b"", 400)],
)
def test_body_that_is_no_json_object_is_refused(house: House, content_type: str, body: bytes, status: int) -> None:
    answer = house.server.client.post("/anthropic/v1/messages", body, headers={"Content-Type": content_type})
    assert (answer.status, answer.json["type"], answer.json["error"]["type"]) == (status, "error", "invalid_request_error")
