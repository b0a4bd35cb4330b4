"""OpenAI's SDK with every base URL that a user may guess."""

from __future__ import annotations

import openai
import pytest

from tests.clients.openai.conftest import House
from tests.clients.openai.test_chat import HELLO
from tests.parts.clis import do

BASES = ["/v1", "/v1/", "", "/openai", "/openai/v1"]


@pytest.mark.parametrize("base", BASES)
def test_sdk_answers_streams_and_lists(house: House, base: str) -> None:
    with house.client(base_url=house.server.url + base) as client:
        answer = client.chat.completions.create(model="demo", messages=HELLO)
        assert "hello" in (answer.choices[0].message.content or "")
        chunks = [*client.chat.completions.create(model="demo", messages=HELLO, stream=True)]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == answer.choices[0].message.content
        response = client.responses.create(model="demo", input="hello")
        assert "hello" in response.output_text
        events = [*client.responses.create(model="demo", input="hello", stream=True)]
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        assert "demo" in [model.id for model in client.models.list()]
        assert client.models.retrieve("claude/opus").id == "claude/opus"


@pytest.mark.parametrize("base", BASES)
def test_sdk_raises_its_own_errors(house: House, base: str) -> None:
    with house.client(base_url=house.server.url + base) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="demo", messages=[])
        assert refused.value.param == "messages"
        with pytest.raises(openai.NotFoundError) as lost:
            client.responses.retrieve("resp_x")
        assert lost.value.type == "invalid_request_error"
        prompt = do(["say", "as far as"], ["fail", "the model is on strike"], about=f"base {base}")
        with pytest.raises(openai.APIError, match="on strike"):
            list(client.chat.completions.create(model="claude", messages=[{"role": "user", "content": prompt}], stream=True))


def test_sdk_is_told_the_base_url_for_what_does_not_exist(house: House) -> None:
    with house.client(base_url=f"{house.server.url}/v1") as client, pytest.raises(openai.NotFoundError) as lost:
        client.embeddings.create(model="demo", input="hello")
    assert lost.value.code == "unknown_url"
    assert "/openai/v1" in lost.value.message
