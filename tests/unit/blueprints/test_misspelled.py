"""Fields that are almost called as a known one: named, never refused; unknown fields of newer clients are not among them."""

from __future__ import annotations

import pytest

from blueprints.anthropic.schemas import MessagesSchema
from blueprints.misspelled import misspelled
from blueprints.openai.chat.schemas import ChatSchema
from blueprints.openai.responses.schemas import CreateResponseSchema
from blueprints.response_headers import hint_header

CHAT = ChatSchema().fields


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("max_token", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("steam", "stream"),
        ("response-format", "response_format"),
    ],
)
def test_a_misspelled_field_is_named_with_what_was_meant(name: str, meant: str) -> None:
    assert misspelled({"model": "demo", "messages": [], name: 1}, CHAT) == {name: meant}


@pytest.mark.parametrize("schema", [ChatSchema, CreateResponseSchema, MessagesSchema])
def test_fields_of_official_clients_are_none(schema: type[ChatSchema]) -> None:
    names = (
        "user", "metadata", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "field_of_tomorrow",
        "min_tokens", "top_a", "betas", "client_metadata", "previous_response_id", "reasoning_split", "cache_control", "stop_token_ids",
    )  # fmt: skip
    assert misspelled(dict.fromkeys(names, 1), schema().fields) == {}


def test_a_field_that_is_there_is_not_what_was_meant() -> None:
    assert misspelled({"max_tokens": 1, "max_token": 1}, ["max_tokens"]) == {}


@pytest.mark.parametrize("name", ["max_token\r\nX-Evil", "max_tökens", "max tokens", "t" * 65, ""])
def test_a_name_that_no_header_can_hold_is_left_out(name: str) -> None:
    assert misspelled({name: 1}, ["max_tokens", "t" * 64]) == {}


def test_the_hint_is_one_header() -> None:
    assert hint_header({}) == {}
    assert hint_header({"max_token": "max_tokens", "steam": "stream"}) == {
        "X-Clinvk-Hint": "unknown field 'max_token', did you mean 'max_tokens'?; unknown field 'steam', did you mean 'stream'?"
    }
