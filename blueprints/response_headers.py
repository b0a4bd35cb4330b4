"""Response headers about a run. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.events import Denial, Failed
    from services.requests import PassedOver

BACKEND = "X-Clinvk-Backend"
DENIED_TOOLS = "X-Clinvk-Denied-Tools"
FALLBACK = "X-Clinvk-Fallback"
ESTIMATED = "X-Clinvk-Estimated"
HINT = "X-Clinvk-Hint"
IGNORED = "X-Clinvk-Ignored"
REPLAYED = "Idempotent-Replayed"
RUN_ID = "X-Clinvk-Run-Id"

NOT_IN_A_NAME = re.compile(r"[^!-+\--~]")
"""Characters of a tool's name that a header value must not contain: space, comma, control and non-ASCII characters."""

DENIED_LIMIT = 20
"""Maximum names in the header: proxies limit the size of response headers, often to 4 KiB."""


def denied_header(denials: Iterable[Denial]) -> dict[str, str]:
    """The tools that the CLI refused to run, without duplicates."""
    names = dict.fromkeys(NOT_IN_A_NAME.sub("_", denial.tool) for denial in denials)
    listed = ", ".join(list(names)[:DENIED_LIMIT])
    return {DENIED_TOOLS: listed} if listed else {}


def fallback_header(passed_over: Iterable[PassedOver]) -> dict[str, str]:
    """The backends that did not answer, in order, each with the reason."""
    listed = ",".join(f"{backend}={reason}" for backend, reason in passed_over)
    return {FALLBACK: listed} if listed else {}


def retry_after_header(failure: Failed | None) -> dict[str, str]:
    """When a run that has failed may succeed, if that is known. Errors have it as well; this is for a failed run that is a result."""
    if failure is None or failure.retry_after_s is None:
        return {}
    return {"Retry-After": str(max(1, math.ceil(failure.retry_after_s)))}


def ignored_header(names: Iterable[str]) -> dict[str, str]:
    """The request fields that had no effect, without duplicates."""
    listed = ", ".join(dict.fromkeys(names))
    return {IGNORED: listed} if listed else {}


def hint_header(misspelled: Mapping[str, str]) -> dict[str, str]:
    """What the misspelled fields of the request are called."""
    hints = "; ".join(f"unknown field '{name}', did you mean '{known}'?" for name, known in misspelled.items())
    return {HINT: hints} if hints else {}
