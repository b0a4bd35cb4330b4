"""A run's outcome as OpenAI's Responses API. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from blueprints.compat.answer import Dialect, ToError
from blueprints.compat.conversation import Conversation
from blueprints.compat.estimate import estimate_tokens
from blueprints.openai.errors import CODEX_RESPONSE_CODES, RESPONSE_CODES
from blueprints.openai.responses.answer import to_state
from blueprints.openai.responses.ids import RESPONSE, new_id
from blueprints.openai.responses.request import names_of
from blueprints.openai.responses.stream import ResponseEncoder, event
from services.events import Failed, Finished, Started, StopReason, Text, Thinking
from services.requests import RunRequest, RunResult
from services.runs.record import Chunk
from services.usage import Usage


class ResponseDialect(Dialect):
    """One object for one run: its answer is the last state of its encoder, so that both have the same ids."""

    path = "/openai/v1/responses"

    def __init__(
        self,
        facts: Mapping[str, Any],
        run_request: RunRequest,
        conversation: Conversation,
        left_out: Sequence[str],
        *,
        node: bytes,
        secret: bytes,
        for_codex: bool,
    ) -> None:
        """``facts``: from `to_facts`. ``left_out``: ignored fields of the body. ``secret`` signs the ids."""
        self._conversation = conversation
        self._left_out = left_out
        self._facts = facts
        self._keeps_session = not run_request.ephemeral
        self._owner = run_request.owner
        self.backend = run_request.backend
        self._node = node
        self._secret = secret
        self._error_codes = CODEX_RESPONSE_CODES if for_codex else RESPONSE_CODES
        self._encoder: ResponseEncoder | None = None

    def prompt_tokens(self) -> int:
        return estimate_tokens(*self._conversation.texts, images=self._conversation.images)

    def ignored(self, options: tuple[str, ...]) -> Iterable[str]:
        return [*self._left_out, *names_of(options)]

    def to_answer(self, result: RunResult, usage: Usage) -> dict[str, Any]:
        """Where no events were encoded, several messages of the agent are one, separated by blank lines."""
        encoder = self._encoder
        if encoder is None:
            encoder = self.to_encoder(_no_error, 0)
            thinking = [Thinking(result.thinking)] if result.thinking else []
            end = Finished(stop_reason=cast(StopReason, result.stop_reason), usage=result.usage)
            encoder([Started(result.session_id), *thinking, Text(result.output), end])
        assert encoder.final, "the run is over"
        return encoder.final

    def to_encoder(self, to_error: ToError, first: int) -> ResponseEncoder:
        self._encoder = ResponseEncoder(
            self._facts,
            new_id=self.new_id,
            prompt_tokens=self.prompt_tokens(),
            to_error=to_error,
            error_codes=self._error_codes,
            first=first,
        )
        return self._encoder

    def webhook_event(self, body: Mapping[str, Any]) -> str | None:
        return "incomplete" if body["status"] == "incomplete" else None

    def queued(self) -> Chunk:
        """The first events of a response that waits for its run."""
        state = to_state(self._facts, self.new_id(RESPONSE, None), "queued", [])
        types = ("response.created", "response.queued")
        return Chunk(0, len(types), b"".join(event(type, number, response=state) for number, type in enumerate(types)))

    def new_id(self, prefix: str, session_id: str | None) -> str:
        is_older = prefix == RESPONSE and self._facts["background"]
        carried = session_id if self._keeps_session and not is_older else None
        return new_id(self._secret, prefix, self.backend, carried, self._node, owner=self._owner)


def _no_error(failure: Failed) -> dict[str, Any]:
    raise AssertionError(f"the run has not failed: {failure}")
