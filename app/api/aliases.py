"""Other paths of the compatible APIs, for clients whose base URL was guessed: `http://HOST:PORT/v1`, the bare address, and the like.

An alias is rewritten to the route's own path before routing, so checks, rate limit, error envelope and probes are the route's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Alias:
    path: str
    target: str
    needs_version: bool = False
    """Only for requests with the header `anthropic-version`, which Anthropic's clients send and OpenAI's do not."""


# Each row applies to what the rows before it made of the path, to the path itself and to all paths below it.
ALIASES = (
    Alias("/v1/v1", "/v1"),
    Alias("/anthropic/v1/v1", "/anthropic/v1"),
    Alias("/v1/messages", "/anthropic/v1/messages"),
    Alias("/v1/chat/completions", "/openai/v1/chat/completions"),
    Alias("/v1/responses", "/openai/v1/responses"),
    Alias("/v1/api/event_logging", "/anthropic/api/event_logging"),
    Alias("/v1", "/anthropic/v1", needs_version=True),
    Alias("/v1", "/openai/v1"),
    Alias("/openai/chat/completions", "/openai/v1/chat/completions"),
    Alias("/openai/responses", "/openai/v1/responses"),
    Alias("/openai/models", "/openai/v1/models"),
    Alias("/chat/completions", "/openai/v1/chat/completions"),
    Alias("/responses", "/openai/v1/responses"),
    Alias("/models", "/openai/v1/models"),
    Alias("/api/event_logging", "/anthropic/api/event_logging"),
    Alias("/anthropic/v1/api/event_logging", "/anthropic/api/event_logging"),
)


def resolve_alias(path: str, environ: Mapping[str, Any]) -> str:
    """The path of the route that ``path`` stands for: ``path`` itself, unless it is an alias."""
    for alias in ALIASES:
        if (path == alias.path or path.startswith(alias.path + "/")) and (not alias.needs_version or "HTTP_ANTHROPIC_VERSION" in environ):
            path = alias.target + path[len(alias.path) :]
    return path
