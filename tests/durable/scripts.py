"""What the scripted CLIs do in a run. Each first appends the token of its run to a file, so that every start is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.parts.clis import do

LINE_CHARS = 200
CHILD = "setsid sleep 600 </dev/null >/dev/null 2>&1 &"
"""Leaves the process group, so that only the server's own bookkeeping finds it."""


@dataclass(frozen=True, slots=True)
class Script:
    """``body``: (token) → shell commands. ``output``: (token) → what they print; None: they fail, or never end."""

    body: Callable[[str], str]
    output: Callable[[str], str] | None
    hangs: bool = False


def line(token: str, number: int) -> str:
    return f"{token} line {number}"


def _lines(token: str, *numbers: int, pause: str = "") -> str:
    return "".join(f"echo '{line(token, number)}'\n{pause}" for number in numbers)


def _printed(*numbers: int) -> Callable[[str], str]:
    return lambda token: "".join(f"{line(token, number)}\n" for number in numbers)


FEW, SOME, MANY = range(3), range(8), range(300)

SCRIPTS: dict[str, Script] = {
    "answers": Script(lambda token: _lines(token, *FEW), _printed(*FEW)),
    "talks slowly": Script(lambda token: _lines(token, *SOME, pause="sleep 0.1\n"), _printed(*SOME)),
    "talks much": Script(lambda token: _lines(token, *MANY), _printed(*MANY)),
    "is silent for a while": Script(lambda token: f"{_lines(token, 0)}sleep 2\n{_lines(token, 1)}", _printed(0, 1)),
    "leaves a child": Script(lambda token: f"{CHILD}\n{_lines(token, *FEW)}", _printed(*FEW)),
    "fails": Script(lambda token: f"{_lines(token, 0)}echo broken >&2\nexit 3\n", None),
    "hangs": Script(lambda token: f"{_lines(token, *FEW)}{CHILD}\nsleep 600\n", None, hangs=True),
}
WEIGHTS = {"answers": 12, "talks slowly": 6, "talks much": 1, "is silent for a while": 2, "leaves a child": 1, "fails": 2}
"""Of the scripts that end by themselves."""


def to_prompt(name: str, token: str, starts: Path) -> str:
    """The prompt of a run on a shell."""
    return f"echo {token} >> {starts}\n{SCRIPTS[name].body(token)}"


def to_claude_prompt(token: str, starts: Path) -> str:
    """The prompt of a run on the scripted CLI in Claude Code's place, which answers with the token."""
    return do(["append", str(starts), f"{token}\n"])
