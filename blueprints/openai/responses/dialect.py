"""A run's outcome as OpenAI's Responses API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blueprints.compat.answer import Dialect, ToError
from blueprints.compat.conversation import Conversation
from blueprints.compat.estimate import estimate_tokens
from blueprints.openai.errors import CODEX_RESPONSE_CODES, RESPONSE_CODES
from blueprints.openai.responses.answer import to_facts, to_response
from blueprints.openai.responses.ids import new_id, new_node
from blueprints.openai.responses.request import names_of
from blueprints.openai.responses.stream import ResponseEncoder
from blueprints.runs.work import Encode
from services.requests import RunRequest, RunResult
from services.usage import Usage


class ResponseDialect(Dialect):
    def __init__(
        self,
        body: Mapping[str, Any],
        run_request: RunRequest,
        conversation: Conversation,
        left_out: Sequence[str],
        *,
        secret: bytes,
        for_codex: bool,
    ) -> None:
        """``left_out``: ignored fields of the body. ``secret`` signs the ids."""
        self._conversation = conversation
        self._left_out = left_out
        self._facts = to_facts(body, is_stored=not run_request.ephemeral)
        self._is_stored = not run_request.ephemeral
        self._backend = run_request.backend
        self._node = new_node()
        self._secret = secret
        self._error_codes = CODEX_RESPONSE_CODES if for_codex else RESPONSE_CODES

    def prompt_tokens(self) -> int:
        return estimate_tokens(self._conversation.system, self._conversation.prompt, images=self._conversation.images)

    def ignored(self, options: tuple[str, ...]) -> Iterable[str]:
        return [*self._left_out, *names_of(options)]

    def to_answer(self, result: RunResult, usage: Usage) -> dict[str, Any]:
        return to_response(result, usage, self._facts, self.new_id)

    def to_encoder(self, to_error: ToError) -> Encode:
        return ResponseEncoder(
            self._facts, new_id=self.new_id, prompt_tokens=self.prompt_tokens(), to_error=to_error, error_codes=self._error_codes
        )

    def new_id(self, prefix: str, session_id: str | None) -> str:
        return new_id(self._secret, prefix, self._backend, session_id if self._is_stored else None, self._node)
