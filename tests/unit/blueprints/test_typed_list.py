"""Errors in `messages` and `input`, by the path of the field and with what may stand there."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
import pytest

from blueprints.anthropic.schemas import MessagesSchema
from blueprints.openai.chat.schemas import ChatSchema
from blueprints.openai.responses.schemas import CreateResponseSchema
from blueprints.validation import invalid_request

OPENAI_ROLES = "system, developer, user, assistant, tool, function"
MESSAGES = [{"role": "user", "content": "x"}, {"role": "usr", "content": "x"}]


@pytest.mark.parametrize(
    ("schema", "body", "message"),
    [
        (ChatSchema, {"messages": MESSAGES}, f"messages[1].role: must be one of: {OPENAI_ROLES}; got 'usr'"),
        (CreateResponseSchema, {"input": MESSAGES}, f"input[1].role: must be one of: {OPENAI_ROLES}; got 'usr'"),
        (MessagesSchema, {"messages": MESSAGES, "max_tokens": 1}, "messages[1].role: must be one of: user, assistant, system; got 'usr'"),
        (ChatSchema, {"messages": [{"role": 1}]}, "messages[0].role: expected str, got int"),
    ],
)
def test_a_wrong_choice_names_the_choices(schema: type[ma.Schema], body: dict[str, Any], message: str) -> None:
    with pytest.raises(ma.ValidationError) as raised:
        schema().load({"model": "demo", **body})
    assert invalid_request(raised.value.messages, schema()).message == message
