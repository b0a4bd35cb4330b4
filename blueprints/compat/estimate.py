"""Token counts where nobody has counted: an estimate, and marked as one wherever it is told. Pure."""

from __future__ import annotations

from services.requests import Image
from services.usage import Usage

BYTES_PER_TOKEN = 4
"""Of UTF-8: about right for English and code, and for scripts of three bytes a character too."""

TOKENS_PER_IMAGE = 1_500
"""A picture of a megapixel and more (Anthropic: width × height / 750, scaled down to 1.15 megapixels)."""


def estimate_tokens(*texts: str | None, images: tuple[Image, ...] = ()) -> int:
    size = sum(len(text.encode(errors="replace")) for text in texts if text)
    return tokens_of_bytes(size) + TOKENS_PER_IMAGE * len(images)


def estimate_usage(prompt_tokens: int, output: str) -> Usage:
    """The usage of a run whose CLI told none."""
    return Usage(input_tokens=prompt_tokens, output_tokens=estimate_tokens(output))


def tokens_of_bytes(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)
