"""What is wrong with a configuration: all of it at once, each problem with its place and what to write instead."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace

from services.suggestion import suggestion

COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class Problem:
    where: str
    """`file:line:column`, `environment` or `command line`; empty where no place can be named."""
    key: str
    """The setting's dotted key, or the variable's name."""
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class SettingsError(Exception):
    """The configuration cannot be used. ``problems`` has at least one entry, in the order they were found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def print_problems(error: SettingsError) -> None:
    """On standard error, one line each."""
    if all(problem.where == COMMAND_LINE for problem in error.problems):
        head, problems = "the command line cannot be used", [replace(problem, where="") for problem in error.problems]
    else:
        head, problems = "the configuration cannot be used", list(error.problems)
    print(f"clinvk: {head}:", *problems, sep="\n  ", file=sys.stderr, flush=True)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A suggestion for a misspelt name, or all there is when the names are few; empty when neither helps."""
    names = sorted(set(known))
    if close := suggestion(name, names):
        return close
    if names and len(names) <= 12:
        return f"known here: {', '.join(names)}"
    return ""
