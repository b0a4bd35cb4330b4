"""Token counts and their arithmetic."""

from __future__ import annotations

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one turn.

    ``input_tokens`` includes cached tokens (OpenAI's and Gemini's convention); ``cached_tokens`` is the part read from the
    vendor's prompt cache and ``cache_write_tokens`` the part written to it. ``output_tokens`` includes ``reasoning_tokens``
    where the vendor counts them so.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )

    def __sub__(self, before: Usage) -> Usage:
        """The tokens of a turn: ``self`` is the session's running total after it, ``before`` the total at its start.

        A total that decreased was reset by the CLI, so all of it belongs to the turn.
        """
        if self.input_tokens < before.input_tokens or self.output_tokens < before.output_tokens:
            return self
        return Usage(
            self.input_tokens - before.input_tokens,
            self.output_tokens - before.output_tokens,
            max(0, self.cached_tokens - before.cached_tokens),
            max(0, self.reasoning_tokens - before.reasoning_tokens),
            max(0, self.cache_write_tokens - before.cache_write_tokens),
        )
