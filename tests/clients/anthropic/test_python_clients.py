"""Other programs' ways to Anthropic's API: LangChain, LiteLLM, pydantic-ai. A plain call, a stream, a conversation, an error."""

from __future__ import annotations

import asyncio
import os
import warnings
from typing import Any

import pytest

from tests.clients.anthropic.conftest import House
from tests.parts.clis import do

STRIKE = [["say", "as far as"], ["fail", "the model is on strike"]]


def need(name: str) -> Any:
    """The module, or a skip that says how to get it: these clients come with the extra `clients`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they deprecate in each other is not our affair
        if os.environ.get("REQUIRE_CLIENTS") == "1":
            __import__(name)
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install -e '.[clients]'")


def langchain(house: House, model: str = "demo", **more: Any) -> Any:
    kind = need("langchain_anthropic").ChatAnthropic
    return kind(model=model, base_url=house.url, api_key="any", max_tokens=1000, stop=None, timeout=60, **more)


def test_langchain_answers_and_streams(house: House) -> None:
    chat = langchain(house, max_retries=0)
    answer = chat.invoke([("system", "Be kind."), ("human", "my name is Ada"), ("ai", "hello Ada"), ("human", "and my name?")])
    assert "my name is Ada" in answer.content
    assert "Be kind." in answer.content
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["stop_reason"] == "end_turn"
    chunks = list(chat.stream("hello"))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    assert len(chunks) > 4
    assert "You said: hello" in whole.content
    assert (whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"]) == (1, 19)


def test_langchain_raises_the_sdk_s_own_errors_and_repeats_nothing(house: House) -> None:
    import anthropic

    with pytest.raises(anthropic.InternalServerError, match="on strike"):
        langchain(house, "claude", max_retries=5).invoke(do(*STRIKE, about="langchain whole"))
    with pytest.raises(anthropic.APIStatusError, match="on strike"):
        list(langchain(house, "claude", max_retries=5).stream(do(*STRIKE, about="langchain stream")))
    with pytest.raises(anthropic.BadRequestError, match="tools"):
        langchain(house).bind_tools([{"name": "f", "input_schema": {"type": "object"}}]).invoke("hello")
    assert (len(house.processes("langchain whole")), len(house.processes("langchain stream"))) == (1, 1)


def litellm(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would fetch its price list at import
    module = need("litellm")
    module.telemetry = False
    return module


@pytest.mark.filterwarnings("ignore")
def test_litellm_answers_and_streams(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    lite = litellm(monkeypatch)
    ways = {"model": "anthropic/demo", "api_base": house.url, "api_key": "any", "max_tokens": 1000, "temperature": 0.5}
    turns = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "my name is Ada"},
        {"role": "assistant", "content": "hello Ada"},
        {"role": "user", "content": [{"type": "text", "text": "and my name?"}]},
    ]
    answer = lite.completion(messages=turns, **ways)
    assert "my name is Ada" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens > 0
    hello = [{"role": "user", "content": "hello"}]
    chunks = list(lite.completion(messages=hello, stream=True, stream_options={"include_usage": True}, **ways))
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "You said: hello" in said
    assert len(chunks) > 4
    assert chunks[-1].usage.completion_tokens == 19


@pytest.mark.filterwarnings("ignore")
def test_litellm_raises_its_own_errors(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    lite = litellm(monkeypatch)
    ways = {"api_base": house.url, "api_key": "any", "max_tokens": 1000, "num_retries": 0}
    prompt = do(["fail", "Rate limit: slow down", 429], about="litellm")
    with pytest.raises(lite.RateLimitError, match="slow down"):
        lite.completion(model="anthropic/claude", messages=[{"role": "user", "content": prompt}], **ways)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with pytest.raises(lite.BadRequestError, match="tools"):
        lite.completion(model="anthropic/demo", messages=[{"role": "user", "content": "hello"}], tools=[tool], **ways)
    assert len(house.processes("litellm")) == 1


@pytest.mark.filterwarnings("ignore")
def test_pydantic_ai_answers_streams_and_raises(house: House) -> None:
    ai = need("pydantic_ai")
    models, providers = need("pydantic_ai.models.anthropic"), need("pydantic_ai.providers.anthropic")

    async def talk() -> tuple[str, str, str, Exception | None]:
        import anthropic

        async with anthropic.AsyncAnthropic(base_url=house.url, api_key="any", max_retries=5) as client:
            provider = providers.AnthropicProvider(anthropic_client=client)
            agent = ai.Agent(models.AnthropicModel("demo", provider=provider), system_prompt="Be kind.")
            first = await agent.run("my name is Ada")
            second = await agent.run("and my name?", message_history=first.all_messages())
            async with agent.run_stream("hello") as stream:
                streamed = "".join([piece async for piece in stream.stream_text(delta=True)])
            failed = None
            try:
                await ai.Agent(models.AnthropicModel("claude", provider=provider)).run(do(*STRIKE, about="pydantic"))
            except ai.exceptions.ModelHTTPError as error:
                failed = error
            return first.output, second.output, streamed, failed

    first, second, streamed, failed = asyncio.run(talk())
    assert "Be kind." in first
    assert "my name is Ada" in second
    assert "You said: hello" in streamed
    assert failed is not None
    assert failed.status_code == 502  # type: ignore[attr-defined]
    assert len(house.processes("pydantic")) == 1
