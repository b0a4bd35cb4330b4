"""The same calls with the real Claude Code, Codex and Gemini CLI behind, which ask the fake model API."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel

from tests.clients.anthropic.test_messages import PIXEL, text
from tests.conftest import Real, Rig
from tests.parts.clis import require
from tests.parts.model_api import Hold, Reply, tokens

SAID = [*tokens(5), " é漢字🙂", " \u2028end"]
COUNTED = {"input_tokens": 1000, "cached_tokens": 234, "output_tokens": 56}


@pytest.fixture
def client(real: Real) -> Iterator[anthropic.Anthropic]:
    headers = {"X-Clinvk-Workdir": str(real.workdir)}
    with anthropic.Anthropic(base_url=f"{real.server.url}/anthropic", api_key="any", max_retries=5, default_headers=headers) as client:
        yield client


def asked(real: Real, prompt: str, **more: Any) -> dict[str, Any]:
    return {"model": real.name, "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}]} | more


def check_usage(usage: anthropic.types.Usage) -> None:
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (1000, 234, 56)


def test_answer_and_usage_are_what_the_model_said(real: Real, client: anthropic.Anthropic) -> None:
    real.api.script("the question", Reply(text=SAID, **COUNTED))  # type: ignore[arg-type]
    message = client.messages.create(**asked(real, "the question"))
    assert text(message) == "".join(SAID)
    assert (message.model, message.stop_reason) == (real.name, "end_turn")
    check_usage(message.usage)
    assert len(real.api.about("the question")) == 1


def test_stream_loses_and_doubles_nothing(real: Real, client: anthropic.Anthropic) -> None:
    said = [*tokens(200), *SAID]
    real.api.script("talk", Reply(text=said, **COUNTED))  # type: ignore[arg-type]
    with client.messages.stream(**asked(real, "talk")) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == text(final) == "".join(said)
    assert len(pieces) > 20
    check_usage(final.usage)
    assert final.stop_reason == "end_turn"


def test_first_token_arrives_before_the_model_has_said_the_second(real: Real, client: anthropic.Anthropic) -> None:
    hold = Hold(after=1)
    real.api.script("slowly", Reply(text=tokens(3), hold=hold))
    with client.messages.stream(**asked(real, "slowly")) as stream:
        said = iter(stream.text_stream)
        assert next(said) == "tok0"
        assert real.api.last(real.cli.dialect).tokens_sent == 1
        hold.release()
        assert "".join(said) == " tok1 tok2"


@pytest.mark.smoke
def test_conversation_and_system_prompt_reach_the_model(real: Real, client: anthropic.Anthropic) -> None:
    real.api.script("and my name?")
    messages: Any = [
        {"role": "user", "content": "my name is Ada"},
        {"role": "assistant", "content": "hello Ada"},
        {"role": "user", "content": "and my name?"},
    ]
    client.messages.create(**asked(real, "", messages=messages, system='Speak like a "pirate".'))
    (exchange,) = real.api.about("and my name?")
    assert 'Speak like a "pirate".' in exchange.system_text
    if real.name == "gemini":  # a transcript
        prompt = next(said for said in exchange.user_texts if "and my name?" in said)
        assert prompt.index("my name is Ada") < prompt.index("hello Ada") < prompt.index("and my name?")
    else:
        assert [said for said in exchange.user_texts if "name" in said and "<" not in said] == ["my name is Ada", "and my name?"]
        assert exchange.mentions("hello Ada")


def test_model_name_that_the_backend_claims_is_passed_on(real: Real, client: anthropic.Anthropic) -> None:
    other = {"claude": "claude-haiku-4-5", "codex": "gpt-5-mini", "gemini": "gemini-2.5-pro"}[real.name]
    real.api.script("who are you")
    client.messages.create(**asked(real, "who are you", model=f"{real.name}/{other}"))
    assert [exchange.model for exchange in real.api.about("who are you")] == [other]


def test_stop_sequence_is_honoured(real: Real, client: anthropic.Anthropic) -> None:
    real.api.script("count", Reply(text=tokens(50)))
    message = client.messages.create(**asked(real, "count", stop_sequences=["tok3"]))
    assert text(message) == "tok0 tok1 tok2 "
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "tok3")


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, anthropic.RateLimitError), (404, anthropic.NotFoundError), (401, anthropic.InternalServerError)],
)
def test_failure_of_the_model_api_is_raised_once(
    real: Real, client: anthropic.Anthropic, status: int, kind: type[anthropic.APIStatusError]
) -> None:
    message = {429: "Rate limit: slow down", 404: "model: no-such-model", 401: "the key is not right"}[status]
    real.api.script("fail", Reply(status=status, message=message))
    with pytest.raises(kind) as raised:
        client.messages.create(**asked(real, "fail"))
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len({exchange.headers.get("X-Claude-Code-Session-Id") for exchange in real.api.about("fail")}) == 1


def test_answer_that_breaks_off_raises_inside_the_stream(real: Real, client: anthropic.Anthropic) -> None:
    real.api.script("break off", Reply(text=tokens(10), fail_after=5))
    with client.messages.stream(**asked(real, "break off")) as stream, pytest.raises(anthropic.APIStatusError):
        stream.until_done()


def test_image_reaches_the_model_or_is_refused(real: Real, client: anthropic.Anthropic) -> None:
    real.api.script("what is it")
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    call = asked(real, "", messages=[{"role": "user", "content": [picture, {"type": "text", "text": "what is it"}]}])
    backends = real.server.client.get("/api/v1/backends").json["backends"]
    if next(one["takes_images"] for one in backends if one["name"] == real.name):
        client.messages.create(**call)
        assert real.api.mentions(base64.b64encode(base64.b64decode(PIXEL)).decode())
    else:
        with pytest.raises(anthropic.BadRequestError, match="images"):
            client.messages.create(**call)


class Person(BaseModel):
    name: str
    age: int


def test_structured_output_is_parsed(rig: Rig) -> None:
    """Codex hands the schema on to the model API; Claude Code makes a tool of it, which the fake API cannot call."""
    require("codex")
    rig.api.forget()
    rig.api.script("who is it", Reply(text=['{"name": "Ada', '", "age": 36}']))
    with anthropic.Anthropic(base_url=f"{rig.server.url}/anthropic", api_key="any", max_retries=0) as client:
        call: dict[str, Any] = {"model": "codex", "max_tokens": 100, "messages": [{"role": "user", "content": "who is it"}]}
        parsed = client.messages.parse(**call, output_format=Person)
        assert parsed.parsed_output == Person(name="Ada", age=36)
        with client.messages.stream(**call, output_format=Person) as stream:
            assert stream.get_final_message().parsed_output == Person(name="Ada", age=36)
    assert rig.api.mentions("additionalProperties")


@pytest.mark.parametrize("backend", ["claude", "codex"])
def test_thinking_is_told_where_it_is_asked_for(rig: Rig, backend: str) -> None:
    require(backend)
    rig.api.forget()
    rig.api.script("think", Reply(thinking=["let me", " think"], text="done"))
    with anthropic.Anthropic(base_url=f"{rig.server.url}/anthropic", api_key="any", max_retries=0) as client:
        call: dict[str, Any] = {"model": backend, "max_tokens": 4000, "messages": [{"role": "user", "content": "think"}]}
        assert [block.type for block in client.messages.create(**call).content] == ["text"]
        thinking: Any = {"type": "enabled", "budget_tokens": 2048}
        whole = client.messages.create(**call, thinking=thinking)
        with client.messages.stream(**call, thinking=thinking) as stream:
            streamed = stream.get_final_message()
    for message in (whole, streamed):
        assert [(block.type, getattr(block, "thinking", None) or getattr(block, "text", "")) for block in message.content] == [
            ("thinking", "let me think"),
            ("text", "done"),
        ]
