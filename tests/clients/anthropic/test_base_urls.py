"""Anthropic's SDK with every base URL that a user may guess."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.clients.anthropic.conftest import House
from tests.parts.clis import do

BASES = ["", "/", "/v1", "/anthropic", "/anthropic/v1"]
HELLO: dict[str, Any] = {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}


def guessed(house: House, base: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=house.server.url + base, api_key="any", max_retries=0)


@pytest.mark.parametrize("base", BASES)
def test_sdk_answers_streams_counts_and_lists(house: House, base: str) -> None:
    with guessed(house, base) as client:
        answer = client.messages.create(**HELLO)
        assert "hello" in answer.content[0].text
        with client.messages.stream(**HELLO) as stream:
            assert "".join(stream.text_stream) == answer.content[0].text
        assert client.messages.count_tokens(model="demo", messages=HELLO["messages"]).input_tokens > 0
        assert [model.id for model in client.models.list(limit=2).data] == ["demo", "demo/demo-1"]
        assert client.models.retrieve("claude/opus").type == "model"


@pytest.mark.parametrize("base", BASES)
def test_sdk_raises_its_own_errors(house: House, base: str) -> None:
    with guessed(house, base) as client:
        with pytest.raises(anthropic.BadRequestError) as refused:
            client.messages.create(**{**HELLO, "messages": []})
        assert refused.value.body["error"]["type"] == "invalid_request_error"
        assert refused.value.request_id
        with pytest.raises(anthropic.NotFoundError, match="http://HOST:PORT/anthropic") as lost:
            client.messages.batches.list()
        assert lost.value.body["error"]["type"] == "not_found_error"
        prompt = do(["say", "as far as"], ["fail", "the model is on strike"], about=f"base {base}")
        with pytest.raises(anthropic.APIStatusError, match="on strike"):
            list(client.messages.create(**{**HELLO, "model": "claude", "messages": [{"role": "user", "content": prompt}]}, stream=True))
