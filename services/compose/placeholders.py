"""``{{previous}}`` and ``{{steps.NAME.output}}`` in the prompts of a chain.

Placeholders are replaced in one pass, so an output that contains one is not expanded. A backslash escapes a placeholder.
Double braces around anything but a name (``{{color: 'red'}}``, ``{{#if x}}``) are plain text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from services.errors import InvalidRequest
from services.event_loop import yield_to_others

PLACEHOLDERS_LIMIT = 1_000
"""Per prompt."""
FILLED_LIMIT_CHARS = 64 << 20
"""Characters of a prompt after substitution."""

# The bounds keep matching linear: prompts may have megabytes.
PLACEHOLDER = re.compile(r"\{\{\s{0,128}(?P<name>steps\.[^{}]{0,128}?|[A-Za-z_][\w.-]{0,128})\s{0,128}\}\}")
STEP_OUTPUT = re.compile(r"steps\.(?P<step>.+)\.output")


def references(prompt: str, number: int, names: Mapping[str, int]) -> Iterator[int]:
    """The indices of the steps whose output the prompt of step ``number`` uses.

    ``names``: step name → index. Raises InvalidRequest for a placeholder that cannot be filled.
    """
    count = 0
    for match, is_escaped in _found(prompt):
        if not is_escaped:
            count += 1
            if count > PLACEHOLDERS_LIMIT:
                raise _refused(f"more than {PLACEHOLDERS_LIMIT:,} placeholders in one prompt", "too many placeholders")
            yield _step(match["name"], number, names)


def fill(prompt: str, number: int, names: Mapping[str, int], output: Callable[[int], str]) -> str:
    """``prompt`` with placeholders replaced by outputs. Raises InvalidRequest if the result is too long."""
    parts: list[str] = []
    end = 0
    for match, is_escaped in _found(prompt):
        parts.append(prompt[end : match.start() - is_escaped])
        parts.append(match.group() if is_escaped else output(_step(match["name"], number, names)))
        end = match.end()
    parts.append(prompt[end:])
    if (size := sum(map(len, parts))) > FILLED_LIMIT_CHARS:
        raise _refused(f"the prompt has {size} characters with outputs filled in; at most {FILLED_LIMIT_CHARS} are allowed", "too long")
    return "".join(parts)


def _found(prompt: str) -> Iterator[tuple[re.Match[str], bool]]:
    """Matches of placeholders, and whether each is escaped with a backslash."""
    end = 0
    at = prompt.find("{{")
    while at >= 0:
        if match := PLACEHOLDER.match(prompt, at):
            yield match, at > end and prompt[at - 1] == "\\"
            end = match.end()
        at = prompt.find("{{", match.end() if match else at + 1)
        yield_to_others()


def _step(name: str, number: int, names: Mapping[str, int]) -> int:
    if name == "previous":
        if number == 0:
            raise _refused("{{previous}} is not valid in the first step", "no previous step")
        return number - 1
    wanted = STEP_OUTPUT.fullmatch(name)
    if not wanted:
        raise _refused(
            f"unknown placeholder {{{{{name}}}}}; use {{{{previous}}}}, {{{{steps.NAME.output}}}}, or \\{{{{{name}}}}} for literal text",
            "unknown placeholder",
        )
    found = names.get(wanted["step"])
    if found is None:
        known = ", ".join(name for name, index in names.items() if index < number) or "none"
        raise _refused(f"{{{{{name}}}}} names an unknown step; earlier named steps: {known}", "unknown step")
    if found >= number:
        raise _refused(f"{{{{{name}}}}} names a step that has not run yet", "step comes later")
    return found


def _refused(message: str, issue: str) -> InvalidRequest:
    return InvalidRequest(message, field="prompt", issue=issue)
