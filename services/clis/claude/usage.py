"""Claude Code's counts of tokens, a message's and a turn's, as ours."""

from __future__ import annotations

from typing import Any

from services.decoding.fields import count_of, has_counts, map_of
from services.usage import Usage

COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def to_usage(usage: dict[str, Any]) -> Usage | None:
    """Anthropic's numbers as ours: their ``input_tokens`` exclude what went through the cache. None without any number."""
    if not has_counts(usage, COUNTS):
        return None
    read = count_of(usage.get("cache_read_input_tokens"))
    written = count_of(usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count_of(usage.get("input_tokens")) + read + written,
        output_tokens=count_of(usage.get("output_tokens")),
        cached_tokens=read,
        cache_write_tokens=written,
    )


def result_usage(result: dict[str, Any]) -> Usage | None:
    usage = to_usage(map_of(result.get("usage")))
    if usage and usage != Usage():
        return usage
    for model in map_of(result.get("modelUsage")).values():
        part = map_of(model)
        names = {"inputTokens": "input_tokens", "outputTokens": "output_tokens"}
        names |= {"cacheReadInputTokens": "cache_read_input_tokens", "cacheCreationInputTokens": "cache_creation_input_tokens"}
        if of_model := to_usage({ours: part.get(theirs) for theirs, ours in names.items()}):
            usage = usage + of_model if usage else of_model
    return usage
