"""The input of a response as a list of items, in the types of OpenAI's SDK."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from openai._models import construct_type
from openai.types.responses import (
    ResponseFunctionToolCallItem,
    ResponseFunctionToolCallOutputItem,
    ResponseInputMessageItem,
    ResponseItem,
    ResponseOutputMessage,
    ResponseReasoningItem,
)
from pydantic import TypeAdapter

from blueprints.openai.responses.input_items import to_items, to_page
from services.errors import InvalidRequest

RUN = "run_0123456789abcdef01"

GIVEN: dict[str, tuple[Any, type]] = {
    "a text": ("hello", ResponseInputMessageItem),
    "a message": ([{"role": "user", "content": "hello", "status": None}], ResponseInputMessageItem),
    "parts": ([{"type": "message", "role": "developer", "content": [{"type": "text", "text": "a"}]}], ResponseInputMessageItem),
    "an image": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}],
        ResponseInputMessageItem,
    ),
    "an answer": ([{"role": "assistant", "content": [{"type": "output_text", "text": "a"}]}], ResponseOutputMessage),
    "an answer as a text": ([{"role": "assistant", "content": "a"}], ResponseOutputMessage),
    "a call": ([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}], ResponseFunctionToolCallItem),
    "its output": ([{"type": "function_call_output", "call_id": "c", "output": "42"}], ResponseFunctionToolCallOutputItem),
    "reasoning": ([{"type": "reasoning", "encrypted_content": "x"}], ResponseReasoningItem),
}


@pytest.mark.parametrize("name", GIVEN)
def test_every_item_is_whole_for_the_sdk(name: str) -> None:
    given, kind = GIVEN[name]
    (item,) = to_items(given, RUN)
    assert isinstance(construct_type(value=item, type_=ResponseItem), kind)
    TypeAdapter(kind).validate_python(item)


def test_the_types_are_those_of_the_sdk() -> None:
    members = get_args(get_args(ResponseItem)[0])
    assert {kind for _, kind in GIVEN.values()} <= set(members)


def test_items_keep_their_ids_or_get_one_that_stays() -> None:
    given = [{"role": "user", "content": "a"}, {"role": "user", "content": "b", "id": "msg_b"}, {"role": "user", "content": "c"}]
    ids = [item["id"] for item in to_items(given, RUN)]
    assert len(set(ids)) == 3
    assert ids[1] == "msg_b"
    assert ids == [item["id"] for item in to_items(given, RUN)]
    assert ids[0] != to_items(given, "run_another")[0]["id"]


def test_references_to_other_items_are_left_out() -> None:
    items = to_items([{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "a"}], RUN)
    assert [item["type"] for item in items] == ["message"]


ITEMS = [{"id": name} for name in "abcde"]


@pytest.mark.parametrize(("order", "after", "found", "has_more"), [
    ("asc", None, "ab", True),
    ("asc", "b", "cd", True),
    ("asc", "d", "e", False),
    ("asc", "e", "", False),
    ("desc", None, "ed", True),
    ("desc", "b", "a", False),
])  # fmt: skip
def test_pages_follow_each_other(order: str, after: str | None, found: str, has_more: bool) -> None:
    page = to_page(ITEMS, limit=2, order=order, after=after)
    assert "".join(item["id"] for item in page["data"]) == found
    assert (page["first_id"], page["last_id"], page["has_more"]) == ((found or None) and found[0], (found or None) and found[-1], has_more)


def test_a_page_after_no_item_is_refused() -> None:
    with pytest.raises(InvalidRequest) as raised:
        to_page(ITEMS, limit=2, order="asc", after="x")
    assert raised.value.field == "after"
