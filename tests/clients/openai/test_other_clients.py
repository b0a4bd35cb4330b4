"""langchain-openai, LiteLLM and pydantic-ai, as they are. Each is skipped, with the reason, where it is not installed."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.clients.openai.conftest import House
from tests.parts.clis import do, told

TURNS = ("my name is Ada", "hello Ada", "and my name?")


def client_package(name: str) -> Any:
    """The package, or a skipped test; a failed one where REQUIRE_CLIENTS=1 forbids that."""
    if os.environ.get("REQUIRE_CLIENTS") == "1":
        return importlib.import_module(name)
    return pytest.importorskip(name)


class Step(BaseModel):
    text: str
    number: int


WANTED = do(["say", '{"text": "é", "number": 7}'])


class TestLangChain:
    @pytest.fixture(params=["chat", "responses"])
    def chat(self, request: pytest.FixtureRequest, house: House) -> Any:
        kind = client_package("langchain_openai").ChatOpenAI
        is_responses = request.param == "responses"

        def make(model: str = "claude", **more: Any) -> Any:
            return kind(base_url=house.url, api_key="any", model=model, use_responses_api=is_responses, **more)

        return make

    def test_plain_call_and_its_numbers(self, chat: Any) -> None:
        answer = chat(temperature=0.2).invoke("hello")
        assert answer.text == "You said: hello"
        assert answer.usage_metadata["input_tokens"] == 16
        assert answer.usage_metadata["output_tokens"] == 7

    def test_stream(self, chat: Any) -> None:
        pieces = [chunk.text for chunk in chat().stream(do(["tokens", 20])) if chunk.text]
        assert "".join(pieces) == " ".join(f"tok{i}" for i in range(20))
        assert len(pieces) == 20

    def test_conversation(self, house: House, chat: Any) -> None:
        asked = TURNS[2] + f" langchain {chat().use_responses_api}"
        chat().invoke([("system", "Be kind."), ("user", TURNS[0]), ("ai", TURNS[1]), ("user", asked)])
        (report,) = house.processes(asked)
        places = [told(report).index(text) for text in (*TURNS[:2], asked)]
        assert places == sorted(places)

    def test_structured_output(self, chat: Any) -> None:
        assert chat().with_structured_output(Step, method="json_schema").invoke(WANTED) == Step(text="é", number=7)

    def test_errors_are_the_sdk_s_own_and_a_run_is_not_repeated(self, house: House, chat: Any) -> None:
        about = f"langchain fails {chat().use_responses_api}"
        with pytest.raises(openai.InternalServerError, match="on strike"):
            chat(max_retries=5).invoke(do(["fail", "the model is on strike"], about=about))
        assert len(house.processes(about)) == 1
        with pytest.raises(openai.APIError, match="on strike"):
            list(chat(max_retries=5).stream(do(["say", "so far"], ["fail", "the model is on strike"], about=about)))
        assert len(house.processes(about)) == 2
        with pytest.raises(openai.BadRequestError, match="tools"):
            chat().bind_tools([Step]).invoke("hello")


@pytest.mark.filterwarnings("ignore")  # its own, of its own types
class TestLiteLlm:
    @pytest.fixture
    def litellm(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """The package, cleaned up after: it asks the thread for an event loop and keeps its clients, and closes neither."""
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else its import waits for an answer from the internet
        package = client_package("litellm")
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        yield package
        asyncio.set_event_loop(None)
        loop.close()
        clients = package.in_memory_llm_clients_cache.cache_dict
        for client in clients.values():
            if isinstance(client, openai.OpenAI):
                client.close()
        clients.clear()

    @pytest.fixture
    def call(self, house: House) -> dict[str, Any]:
        return {"model": "openai/claude", "api_base": house.url, "api_key": "any"}

    def test_plain_call_and_its_numbers(self, litellm: Any, call: dict[str, Any]) -> None:
        answer = litellm.completion(**call, messages=[{"role": "user", "content": "hello"}], temperature=0.2)
        assert answer.choices[0].message.content == "You said: hello"
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (16, 7)

    def test_stream(self, litellm: Any, call: dict[str, Any]) -> None:
        chunks = list(litellm.completion(**call, messages=[{"role": "user", "content": do(["tokens", 20])}], stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " ".join(f"tok{i}" for i in range(20))
        assert chunks[-1].choices[0].finish_reason == "stop"

    def test_conversation(self, house: House, litellm: Any, call: dict[str, Any]) -> None:
        asked = TURNS[2] + " litellm"
        roles = ("user", "assistant", "user")
        messages = [{"role": role, "content": text} for role, text in zip(roles, (*TURNS[:2], asked), strict=True)]
        litellm.completion(**call, messages=messages)
        assert TURNS[0] in told(house.processes(asked)[0])

    def test_responses(self, litellm: Any, call: dict[str, Any]) -> None:
        assert litellm.responses(**call, input="hello").output[-1].content[0].text == "You said: hello"

    def test_errors(self, house: House, litellm: Any, call: dict[str, Any]) -> None:
        messages = [{"role": "user", "content": do(["fail", "the model is on strike"], about="litellm fails")}]
        with pytest.raises(openai.APIError, match="on strike"):
            litellm.completion(**call, messages=messages)
        assert len(house.processes("litellm fails")) == 1
        with pytest.raises(litellm.BadRequestError, match="only one choice is supported"):
            litellm.completion(**call, messages=[{"role": "user", "content": "x"}], n=2)
        limited = [{"role": "user", "content": do(["fail", "API Error: 429 rate limit", 429])}]
        with pytest.raises(litellm.RateLimitError):
            litellm.completion(**call, messages=limited)


Use = Callable[[Any], Awaitable[Any]]


class TestPydanticAi:
    @pytest.fixture(params=["chat", "responses"])
    def use(self, request: pytest.FixtureRequest, house: House) -> Callable[[Use], Any]:
        """Runs a function that is given a maker of agents; closes their client, which pydantic-ai itself leaves open."""
        make = client_package("pydantic_ai").Agent
        models = client_package("pydantic_ai.models.openai")
        provider = client_package("pydantic_ai.providers.openai").OpenAIProvider
        kind = models.OpenAIChatModel if request.param == "chat" else models.OpenAIResponsesModel

        async def main(used: Use) -> Any:
            async with openai.AsyncOpenAI(base_url=house.url, api_key="any") as client:
                return await used(lambda **more: make(kind("claude", provider=provider(openai_client=client)), **more))

        return lambda used: asyncio.run(main(used))

    def test_plain_call_and_a_conversation(self, house: House, use: Callable[[Use], Any], request: pytest.FixtureRequest) -> None:
        asked = f"{TURNS[2]} {request.node.name}"

        async def talk(agent: Any) -> Any:
            first = await agent(system_prompt="Be kind.").run(TURNS[0])
            await agent().run(asked, message_history=first.all_messages())
            return first

        first = use(talk)
        assert first.output == f"You said: {TURNS[0]}"
        assert first.usage.output_tokens == 7
        assert TURNS[0] in told(house.processes(asked)[0])

    def test_stream(self, use: Callable[[Use], Any]) -> None:
        async def read(agent: Any) -> list[str]:
            async with agent().run_stream(do(["tokens", 20])) as result:
                return [piece async for piece in result.stream_text(delta=True, debounce_by=None)]

        pieces = use(read)
        assert "".join(pieces) == " ".join(f"tok{i}" for i in range(20))
        assert len(pieces) > 10

    def test_structured_output(self, use: Callable[[Use], Any]) -> None:
        native = client_package("pydantic_ai").NativeOutput(Step)
        assert use(lambda agent: agent(output_type=native).run(WANTED)).output == Step(text="é", number=7)

    def test_errors(self, house: House, use: Callable[[Use], Any], request: pytest.FixtureRequest) -> None:
        errors = client_package("pydantic_ai.exceptions")
        about = f"fails {request.node.name}"
        with pytest.raises(errors.ModelHTTPError, match="on strike") as raised:
            use(lambda agent: agent().run(do(["fail", "the model is on strike"], about=about)))
        assert raised.value.status_code == 502
        assert len(house.processes(about)) == 1
        with pytest.raises(errors.ModelHTTPError) as refused:
            use(lambda agent: agent(output_type=Step).run("hello"))  # as a tool
        assert refused.value.status_code == 400
