"""``{{previous}}`` and ``{{steps.NAME.output}}`` in the prompts of a chain.

Every placeholder is replaced once, in one pass: an output that looks like one stays as it is. A backslash before one makes
it text. What stands between double braces but is no name (``{{color: 'red'}}``, ``{{#if x}}``) is text anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import gevent

from services.errors import InvalidRequest

PLACEHOLDERS_LIMIT = 1_000
"""Of one prompt."""
FILLED_LIMIT_CHARS = 64 << 20
"""Of a prompt with the outputs in it."""
YIELD_EVERY = 4_096
"""Pairs of braces that are looked at before other requests have their turn."""

# The bounds keep the search linear: a prompt may have megabytes.
PLACEHOLDER = re.compile(r"\{\{\s{0,128}(?P<name>steps\.[^{}]{0,128}?|[A-Za-z_][\w.-]{0,128})\s{0,128}\}\}")
STEP_OUTPUT = re.compile(r"steps\.(?P<step>.+)\.output")


def references(prompt: str, number: int, names: Mapping[str, int]) -> Iterator[int]:
    """The indices of the steps whose output the prompt of step ``number`` asks for.

    ``names``: the indices of all steps that have a name. Raises InvalidRequest for what can never be filled.
    """
    count = 0
    for match, is_escaped in _found(prompt):
        if not is_escaped:
            count += 1
            if count > PLACEHOLDERS_LIMIT:
                raise _refused(f"more than {PLACEHOLDERS_LIMIT:,} placeholders in one prompt", "too many placeholders")
            yield _step(match["name"], number, names)


def fill(prompt: str, number: int, names: Mapping[str, int], output: Callable[[int], str]) -> str:
    """``prompt`` with the outputs in the places of their placeholders. Raises InvalidRequest where that gets too long."""
    parts: list[str] = []
    end = 0
    for match, is_escaped in _found(prompt):
        parts.append(prompt[end : match.start() - is_escaped])
        parts.append(match.group() if is_escaped else output(_step(match["name"], number, names)))
        end = match.end()
    parts.append(prompt[end:])
    if (size := sum(map(len, parts))) > FILLED_LIMIT_CHARS:
        raise _refused(f"with the outputs in it, it has {size} characters; at most {FILLED_LIMIT_CHARS} are possible", "too long")
    return "".join(parts)


def _found(prompt: str) -> Iterator[tuple[re.Match[str], bool]]:
    """What looks like a placeholder, and whether a backslash before it makes it text."""
    count, end = 0, 0
    at = prompt.find("{{")
    while at >= 0:
        if match := PLACEHOLDER.match(prompt, at):
            yield match, at > end and prompt[at - 1] == "\\"
            end = match.end()
        at = prompt.find("{{", match.end() if match else at + 1)
        count += 1
        if count % YIELD_EVERY == 0:
            gevent.sleep(0)


def _step(name: str, number: int, names: Mapping[str, int]) -> int:
    if name == "previous":
        if number == 0:
            raise _refused("{{previous}} in the first step: there is no output before it", "no previous step")
        return number - 1
    wanted = STEP_OUTPUT.fullmatch(name)
    if not wanted:
        raise _refused(
            f"unknown placeholder {{{{{name}}}}}; there are {{{{previous}}}} and {{{{steps.NAME.output}}}}, and \\{{{{{name}}}}} is text",
            "unknown placeholder",
        )
    found = names.get(wanted["step"])
    if found is None:
        known = ", ".join(name for name, index in names.items() if index < number) or "none with a name"
        raise _refused(f"{{{{{name}}}}} names no step; before this one there are: {known}", "unknown step")
    if found >= number:
        raise _refused(f"{{{{{name}}}}} names a step that has not run yet by then", "step comes later")
    return found


def _refused(message: str, issue: str) -> InvalidRequest:
    return InvalidRequest(message, field="prompt", issue=issue)
