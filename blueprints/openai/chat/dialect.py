"""A run's outcome as OpenAI's chat completions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blueprints.compat.answer import Dialect, ToError
from blueprints.compat.conversation import Conversation
from blueprints.compat.estimate import estimate_tokens
from blueprints.openai.chat.answer import ChunkEncoder, to_completion
from blueprints.openai.chat.request import names_of
from blueprints.runs.work import Encode
from services.requests import RunResult
from services.usage import Usage


class ChatDialect(Dialect):
    path = "/openai/v1/chat/completions"

    def __init__(self, body: Mapping[str, Any], conversation: Conversation, left_out: Sequence[str]) -> None:
        """``left_out``: ignored fields of the body."""
        self._body = body
        self._conversation = conversation
        self._left_out = left_out

    def prompt_tokens(self) -> int:
        return estimate_tokens(*self._conversation.texts, images=self._conversation.images)

    def ignored(self, options: tuple[str, ...]) -> Iterable[str]:
        return [*self._left_out, *names_of(self._body, options)]

    def to_answer(self, result: RunResult, usage: Usage) -> dict[str, Any]:
        return to_completion(result, usage, model=self._body["model"])

    def to_encoder(self, to_error: ToError, first: int) -> Encode:
        include_usage = bool((self._body.get("stream_options") or {}).get("include_usage"))
        return ChunkEncoder(self._body["model"], include_usage=include_usage, prompt_tokens=self.prompt_tokens(), to_error=to_error)
