"""A measurement's outcome, as numbers that can be kept, and as Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

Cell = str | int | float


@dataclass(frozen=True, kw_only=True)
class Group:
    """Bars of the picture that belong together: (label, value, what stands at the bar's end)."""

    title: str
    bars: Sequence[tuple[str, float, str]]


@dataclass(frozen=True, kw_only=True)
class Section:
    title: str
    note: str
    """What was done, and how to read it."""
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[Group] = ()
    machine: str = field(default_factory=lambda: machine())

    def markdown(self) -> str:
        lines = [" | ".join(self.columns), "|".join("---" for _ in self.columns), *(" | ".join(map(str, row)) for row in self.rows)]
        table = "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)
        return f"### {self.title}\n\n{self.note}\n\n{table}\n\n<sub>{self.machine}</sub>\n"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Section:
        groups = [Group(title=group["title"], bars=[tuple(bar) for bar in group["bars"]]) for group in told.pop("groups")]
        return cls(groups=groups, **told)


def machine() -> str:
    """Where and when, and what else the machine had to do."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg()[:2])
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{at}; {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}; load {load}"
