"""The response headers that a client may want to read: the one list of them, and how those about a run are made. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.events import Denial

BACKEND = "X-Clinvk-Backend"
DENIED_TOOLS = "X-Clinvk-Denied-Tools"
ESTIMATED = "X-Clinvk-Estimated"
IGNORED = "X-Clinvk-Ignored"

EXPOSED = (
    "Deprecation", "Link", "Location", "Request-Id", "Retry-After", "Sunset", BACKEND, DENIED_TOOLS, ESTIMATED, IGNORED,
    "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-ID", "X-Should-Retry",
)  # fmt: skip
"""What a script in an allowed page may read (CORS)."""


NOT_IN_A_NAME = re.compile(r"[^!-+\--~]")
"""What a tool's name must not bring into a header: spaces and commas, control characters, characters outside ASCII."""

DENIED_LIMIT = 20
"""Names in the header: proxies limit the size of a response's headers, often to 4 KiB."""


def denied_header(denials: Iterable[Denial]) -> dict[str, str]:
    """The tools that the CLI refused to run for the agent, each once."""
    names = dict.fromkeys(NOT_IN_A_NAME.sub("_", denial.tool) for denial in denials)
    listed = ", ".join(list(names)[:DENIED_LIMIT])
    return {DENIED_TOOLS: listed} if listed else {}


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """Which parts of the request had no effect, each once."""
    listed = ", ".join(dict.fromkeys(names))
    return {IGNORED: listed} if listed else {}
