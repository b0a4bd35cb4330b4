"""The response headers that a client may want to read: the one list of them, and how those about a run are made. Pure."""

from __future__ import annotations

from collections.abc import Iterable

BACKEND = "X-Clinvk-Backend"
ESTIMATED = "X-Clinvk-Estimated"
IGNORED = "X-Clinvk-Ignored"

EXPOSED = (
    "Deprecation", "Link", "Location", "Request-Id", "Retry-After", "Sunset", BACKEND, ESTIMATED, IGNORED,
    "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-ID", "X-Should-Retry",
)  # fmt: skip
"""What a script in an allowed page may read (CORS)."""


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Which parts of the request had no effect, each once."""
    listed = ", ".join(dict.fromkeys(names))
    return {IGNORED: listed} if listed else {}
