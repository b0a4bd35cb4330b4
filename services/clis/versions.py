"""Which versions of a CLI the server is tested with, and what is known against others. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBERS = re.compile(r"(\d+(?:\.\d+)*)(-?)")


@dataclass(frozen=True, slots=True)
class Fault:
    fixed_in: str
    """The first version without it."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportedVersions:
    """The bounds of what the tests with real CLIs pass with (tests/clis). Another version works as a rule; nobody has tried."""

    oldest: str
    newest: str
    faults: tuple[Fault, ...] = ()
    """Of the CLI's own, as its changelog names them; those that the server cannot make up for."""

    def warnings(self, version: str) -> tuple[str, ...]:
        """What to say about ``version``; empty where there is nothing."""
        found = []
        if _key(version) < _key(self.oldest):
            found.append(f"{version} is older than {self.oldest}, the oldest version that is supported")
        if _key(version) > _key(self.newest):
            found.append(f"{version} is newer than {self.newest}, the newest version that was tested")
        found += [f"{fault.text} (fixed in {fault.fixed_in})" for fault in self.faults if _key(version) < _key(fault.fixed_in)]
        return tuple(found)


def _key(version: str) -> tuple[tuple[int, ...], bool]:
    """In the order of versions; 1.0.0-alpha comes before 1.0.0. What is no version comes first."""
    match = NUMBERS.match(version)
    return (tuple(map(int, match[1].split("."))), not match[2]) if match else ((), False)
