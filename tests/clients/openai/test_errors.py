"""Every failure is raised by OpenAI's SDK as the class that its user expects, and a run that has started is never repeated."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.clients.openai.conftest import House
from tests.clients.openai.test_chat import HELLO, PIXEL, ask
from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def with_part(**part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


REFUSED: dict[str, tuple[dict[str, Any], str | None]] = {
    "no messages": ({"messages": []}, "messages"),
    "no text": ({"messages": [{"role": "user", "content": ""}]}, "messages"),
    "messages that are null": ({"messages": None}, "messages"),
    "messages of a wrong type": ({"messages": "hello"}, "messages"),
    "unknown role": ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    "content of a wrong type": ({"messages": [*HELLO, {"role": "user", "content": 3}]}, "messages[1].content"),
    "unknown part": (with_part(type="hologram"), "messages[0].content[0]"),
    "audio part": (with_part(type="input_audio", input_audio={"data": "", "format": "wav"}), "messages[0].content[0]"),
    "file part": (with_part(type="file", file={"file_id": "x"}), "messages[0].content[0]"),
    "text part without text": (with_part(type="text"), "messages[0].content[0].text"),
    "image to be fetched": (
        with_part(type="image_url", image_url={"url": "https://example.com/a.png"}),
        "messages[0].content[0].image_url",
    ),
    "image that is none": (
        with_part(type="image_url", image_url={"url": "data:image/png;base64,AAAA"}),
        "messages[0].content[0].image_url",
    ),
    "image that the backend cannot take": (with_part(type="image_url", image_url={"url": f"data:image/png;base64,{PIXEL}"}), "messages"),
    "schema that the backend cannot honour": ({"response_format": FORMAT}, "response_format"),
    "unknown format": ({"response_format": {"type": "xml"}}, "response_format"),
    "schema without a schema": ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
    "schema that is no object": ({"response_format": {"type": "json_schema", "json_schema": "x"}}, "response_format"),
    "several answers": ({"n": 2}, "n"),
    "tools": ({"tools": [TOOL]}, "tools"),
    "functions": ({"functions": [TOOL["function"]]}, "functions"),
    "audio": ({"modalities": ["text", "audio"], "audio": {"format": "wav", "voice": "alloy"}}, "modalities"),
    "too many stops": ({"stop": list("abcde")}, "stop"),
    "negative max_tokens": ({"max_tokens": -1}, "max_tokens"),
    "unknown effort": ({"reasoning_effort": "enormous"}, "reasoning_effort"),
    "model that is no name": ({"model": "--help"}, "model"),
    "empty model": ({"model": ""}, "model"),
    "workdir that is relative": ({"extra_headers": {"X-Clinvk-Workdir": "there"}}, "X-Clinvk-Workdir"),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_parameter(client: openai.OpenAI, name: str, stream: bool) -> None:
    asked, param = REFUSED[name]
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, **{"model": "demo", **asked}, stream=stream)
    assert (raised.value.param, raised.value.type) == (param, "invalid_request_error")
    assert raised.value.request_id


def test_all_four_keys_are_always_there(house: House) -> None:
    for path, body in (("/chat/completions", {"model": "demo"}), ("/nothing", {}), ("/responses", {"model": "demo", "input": 3})):
        answer = house.server.client.post(f"/openai/v1{path}", body)
        assert set(answer.json["error"]) == {"message", "type", "param", "code"}


def test_missing_model_is_400_and_not_422(house: House) -> None:
    answer = house.server.client.post("/openai/v1/chat/completions", {"messages": HELLO})
    assert (answer.status, answer.json["error"]["param"]) == (400, "model")


def test_tools_that_may_not_be_called_are_fine(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="demo", messages=HELLO, tools=[TOOL], tool_choice="none")  # type: ignore[list-item]
    assert raw.headers["x-clinvk-ignored"] == "tools"


@pytest.mark.parametrize("headers", [
    {"X-Clinvk-Tools": "ignore"},
    {"User-Agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64) unknown (codex_exec; 0.169.0)"},
    {"User-Agent": "claude-cli/2.1.197 (external, cli)"},
])  # fmt: skip
def test_tools_of_a_coding_agent_are_left_out_and_named(client: openai.OpenAI, headers: dict[str, str]) -> None:
    raw = client.chat.completions.with_raw_response.create(model="demo", messages=HELLO, tools=[TOOL], extra_headers=headers)  # type: ignore[list-item]
    assert raw.headers["x-clinvk-ignored"] == "tools"


FAILURES: list[tuple[list[Any], type[openai.APIStatusError], int, str | None]] = [
    (["fail", "API Error: 429 rate limit reached", 429], openai.RateLimitError, 429, "rate_limit_exceeded"),
    (["fail", "API Error: 529 overloaded", 529], openai.InternalServerError, 503, "backend_overloaded"),
    (["fail", "prompt is too long: 3 > 2", 400], openai.BadRequestError, 400, "context_length_exceeded"),
    (["fail", "There's an issue with the selected model (x)", 404], openai.NotFoundError, 404, "model_not_found"),
    (["fail", "Invalid API key · Please run /login", 401], openai.InternalServerError, 503, "backend_unavailable"),
    (["fail", "it broke", 500], openai.InternalServerError, 502, "backend_error"),
    (["exit", 3], openai.InternalServerError, 502, "backend_error"),
    (["die", 9], openai.InternalServerError, 502, "backend_error"),
]


@pytest.mark.parametrize(("step", "kind", "status", "code"), FAILURES, ids=[str(step[1]) for step, *_ in FAILURES])
def test_failed_run_is_raised_as_its_class_and_never_repeated(
    house: House, step: list[Any], kind: type[openai.APIStatusError], status: int, code: str | None
) -> None:
    about = f"fail {step}"
    with house.client(max_retries=5) as client, pytest.raises(kind) as raised:
        ask(client, do(step, about=about))
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(house.processes(about)) == 1


@pytest.mark.parametrize(("step", "code"), [(step, code) for step, _, _, code in FAILURES], ids=[str(step[1]) for step, *_ in FAILURES])
def test_failure_within_a_stream_is_raised_after_the_text(house: House, step: list[Any], code: str | None) -> None:
    about = f"stream {step}"
    said: list[str | None] = []

    def read() -> None:
        for chunk in ask(client, do(["say", "so far "], step, about=about), stream=True):
            said.append(chunk.choices[0].delta.content)
            assert chunk.choices[0].finish_reason is None

    with house.client(max_retries=5) as client, pytest.raises(openai.APIError) as raised:
        read()
    assert "".join(text or "" for text in said) == "so far "
    assert raised.value.code == code
    assert set(raised.value.body) == {"message", "type", "param", "code"}  # type: ignore[call-overload]
    assert len(house.processes(about)) == 1


def test_failed_stream_does_not_end_with_done(house: House) -> None:
    body = {"model": "claude", "messages": [{"role": "user", "content": do(["fail", "it broke"])}], "stream": True}
    with house.server.client.open("POST", "/openai/v1/chat/completions", body) as stream:
        assert b"[DONE]" not in stream.response.read()


def test_backend_that_is_not_installed_is_503(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError, match="not available") as raised:
        ask(client, model="codex", stream=True)
    assert (raised.value.status_code, raised.value.code) == (503, "backend_unavailable")


def test_unknown_model_and_unknown_path_are_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("nobody-claims-this")
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError) as raised:
        client.embeddings.create(model="demo", input="x")
    assert raised.value.code == "unknown_url"


def test_wrong_key_long_body_timeout_and_full_queue(server: ServerFactory, fake_cli: FakeCli) -> None:
    limits = {"max_request_body_bytes": 2000, "request_timeout_secs": 0.5, "max_concurrent_runs": 1, "max_queued_runs": 0}
    one = server(
        {
            "default_backend": "claude",
            "backends": {"claude": fake_cli.backend()},
            "server": {**limits, "api_keys": ["secret-key-1-0123456789"]},
        }
    )
    base = {"base_url": f"{one.url}/openai/v1", "max_retries": 0}
    with openai.OpenAI(**base, api_key="wrong") as client, pytest.raises(openai.AuthenticationError) as refused:  # type: ignore[arg-type]
        ask(client)
    assert refused.value.code == "invalid_api_key"
    with openai.OpenAI(**base, api_key="secret-key-1-0123456789") as client:  # type: ignore[arg-type]
        with pytest.raises(openai.APIStatusError) as too_large:
            ask(client, "x" * 3000)
        assert too_large.value.status_code == 413
        with pytest.raises(openai.InternalServerError) as timed_out:
            ask(client.with_options(max_retries=5), do(["hang"]))
        assert (timed_out.value.status_code, timed_out.value.code) == (504, "timeout")
        assert len(fake_cli.reports()) == 1
        with one.client.send("POST", "/openai/v1/chat/completions", _hanging(), {"Authorization": "Bearer secret-key-1-0123456789"}):
            fake_cli.wait_for(2)
            with pytest.raises(openai.InternalServerError) as full:
                ask(client)
        assert full.value.status_code == 503
        assert int(full.value.response.headers["retry-after"]) >= 1
        assert "x-should-retry" not in full.value.response.headers


def _hanging() -> dict[str, Any]:
    return {"model": "claude", "messages": [{"role": "user", "content": do(["hang"])}]}


def test_rate_limit_is_told_with_its_wait(server: ServerFactory) -> None:
    one = server({"default_backend": "demo", "server": {"rate_limit_enabled": True, "rate_limit_rps": 0.01, "rate_limit_burst": 1}})
    with openai.OpenAI(base_url=f"{one.url}/openai/v1", api_key="any", max_retries=0) as client:
        client.responses.create(model="demo", input="hello")
        with pytest.raises(openai.RateLimitError) as raised:
            client.responses.create(model="demo", input="hello")
        assert int(raised.value.response.headers["retry-after"]) >= 1
        client.models.list()  # costs nothing, and is not limited


def test_strict_models_make_an_unknown_name_a_404(server: ServerFactory) -> None:
    one = server({"default_backend": "demo", "server": {"strict_models": True}})
    with (
        openai.OpenAI(base_url=f"{one.url}/openai/v1", api_key="any", max_retries=0) as client,
        pytest.raises(openai.NotFoundError) as raised,
    ):
        ask(client, model="nobody-claims-this")
    assert raised.value.code == "model_not_found"
