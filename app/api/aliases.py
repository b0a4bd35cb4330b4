"""Path aliases of the compatible APIs, for clients with another base URL: `http://HOST:PORT/v1`, the bare address, and so on.

An alias is rewritten to the route's path before routing, so the route's checks, rate limit and error format apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Alias:
    path: str
    target: str
    needs_version: bool = False
    """Applies only to requests with an `anthropic-version` header, which Anthropic's clients send and OpenAI's do not."""


# Rows apply in order, each to the result of the previous ones. A row matches its path and all paths below it.
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
    """The canonical path of ``path``: ``path`` itself unless it is an alias."""
    return _resolved(path, "HTTP_ANTHROPIC_VERSION" in environ)


@lru_cache
def _resolved(path: str, has_version: bool) -> str:
    for alias in ALIASES:
        if (path == alias.path or path.startswith(alias.path + "/")) and (not alias.needs_version or has_version):
            path = alias.target + path[len(alias.path) :]
    return path
