"""A run's outcome as Anthropic's Messages API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from blueprints.anthropic.stream import MessageEncoder
from blueprints.anthropic.translate import ignored_fields, prompt_tokens, to_message, wants_thinking
from blueprints.compat.answer import Dialect, ToError
from blueprints.compat.conversation import Conversation
from blueprints.runs.work import Encode
from services.requests import RunResult
from services.usage import Usage


class MessageDialect(Dialect):
    path = "/anthropic/v1/messages"
    waits_for_output = True  # after an error event Claude Code repeats the request without streaming

    def __init__(self, body: Mapping[str, Any], conversation: Conversation) -> None:
        self._body = body
        self._conversation = conversation

    def prompt_tokens(self) -> int:
        return prompt_tokens(self._body, self._conversation)

    def ignored(self, options: tuple[str, ...]) -> Iterable[str]:
        return ignored_fields(self._body, options)

    def to_answer(self, result: RunResult, usage: Usage) -> dict[str, Any]:
        return to_message(result, usage, model=self._body["model"], has_thinking=wants_thinking(self._body))

    def to_encoder(self, to_error: ToError, first: int) -> Encode:
        return MessageEncoder(
            self._body["model"], input_tokens=self.prompt_tokens(), has_thinking=wants_thinking(self._body), to_error=to_error
        )
