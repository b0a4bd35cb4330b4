"""Estimated token counts, for CLIs that report none. Responses mark them as estimates. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.history import Image
from services.usage import Usage

BYTES_PER_TOKEN = 4
"""In UTF-8: about right for English, code, and scripts with three bytes per character."""

TOKENS_PER_IMAGE = 1_500
"""For an image of a megapixel or more (Anthropic: width × height / 750, scaled down to 1.15 megapixels)."""


def estimate_tokens(*texts: str | None, images: tuple[Image, ...] = ()) -> int:
    size = sum(len(text.encode(errors="replace")) for text in texts if text)
    return tokens_of_bytes(size) + TOKENS_PER_IMAGE * len(images)


def estimate_usage(prompt_tokens: int, output: str) -> Usage:
    """Estimated usage of a run whose CLI reports none."""
    return Usage(input_tokens=prompt_tokens, output_tokens=estimate_tokens(output))


def usage_or_estimate(
    usage: Usage | None, prompt_tokens: int, output_bytes: int, form: Callable[[Usage], dict[str, Any]]
) -> dict[str, Any]:
    """A stream's final usage, converted by ``form``; if the CLI reports none, an estimate marked ``"estimated": true``."""
    if usage:
        return form(usage)
    return {**form(Usage(input_tokens=prompt_tokens, output_tokens=tokens_of_bytes(output_bytes))), "estimated": True}


def tokens_of_bytes(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
