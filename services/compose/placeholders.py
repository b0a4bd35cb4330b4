"""``{{previous}}`` and ``{{steps.NAME.output}}`` in the prompts of a chain. Pure.

Every placeholder is replaced once, in one pass: an output that looks like one stays as it is. A backslash before one makes
it text. What stands between double braces but is no name (``{{color: 'red'}}``, ``{{#if x}}``) is text anyway.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from services.errors import InvalidRequest

# The bound keeps the search linear: a prompt may have megabytes.
PLACEHOLDER = re.compile(r"(?P<escape>\\)?\{\{\s*(?P<name>steps\.[^{}]{0,128}?|[A-Za-z_][\w.-]*)\s*\}\}")
STEP_OUTPUT = re.compile(r"steps\.(?P<step>.+)\.output")


def references(prompt: str, number: int, names: Sequence[str]) -> Iterator[int]:
    """The indices of the steps whose output the prompt of step ``number`` asks for.

    ``names`` are those of all steps, empty where a step has none. Raises InvalidRequest for what can never be filled.
    """
    for match in PLACEHOLDER.finditer(prompt):
        if not match["escape"]:
            yield _step(match["name"], number, names)


def fill(prompt: str, number: int, names: Sequence[str], output: Callable[[int], str]) -> str:
    """``prompt`` with the outputs in the places of their placeholders."""

    def put(match: re.Match[str]) -> str:
        return match.group()[1:] if match["escape"] else output(_step(match["name"], number, names))

    return PLACEHOLDER.sub(put, prompt)


def _step(name: str, number: int, names: Sequence[str]) -> int:
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
    step = wanted["step"]
    if step not in names or not step:
        known = ", ".join(filter(None, names[:number])) or "none with a name"
        raise _refused(f"{{{{{name}}}}} names no step; before this one there are: {known}", "unknown step")
    found = names.index(step)
    if found >= number:
        raise _refused(f"{{{{{name}}}}} names a step that has not run yet by then", "step comes later")
    return found


def _refused(message: str, issue: str) -> InvalidRequest:
    return InvalidRequest(message, field="prompt", issue=issue)
