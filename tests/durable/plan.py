"""A random list of runs, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.durable.scripts import SCRIPTS, WEIGHTS

Way = Literal[
    "followed", "streamed", "polled", "same key at once", "cancelled", "deleted", "retried", "kept", "kept stream", "read twice", "parallel",
    "resumed",
]  # fmt: skip

WAYS: dict[Way, int] = {
    "followed": 26,
    "streamed": 16,
    "polled": 16,
    "same key at once": 10,
    "cancelled": 10,
    "deleted": 5,
    "retried": 7,
    "kept": 4,
    "kept stream": 3,
    "read twice": 3,
    "parallel": 3,
    "resumed": 2,
}
"""With their weights. See `tests.durable.ways`."""
CLAUDE = 0.1
"""So many runs are on the scripted CLI in Claude Code's place, which is kept warm and has sessions; the others are on a shell."""
HANGING = 0.4
"""So many of the runs that are cancelled would never end."""
FILE = "starts"


@dataclass(frozen=True, slots=True)
class Ask:
    """One run to be asked for. ``script`` is None on the scripted CLI in Claude Code's place. ``dice``: the client's choices."""

    number: int
    way: Way
    token: str
    script: str | None
    dice: random.Random

    def __str__(self) -> str:
        return f"#{self.number} {self.token} {self.way} ({self.script or 'claude'})"


def plan(seed: int) -> Iterator[Ask]:
    """Without end."""
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        way = dice.choices(list(WAYS), list(WAYS.values()))[0]
        token = f"tkn{dice.getrandbits(64):016x}z"
        yield Ask(number, way, token, _script(dice, way), random.Random(dice.getrandbits(64)))


def _script(dice: random.Random, way: Way) -> str | None:
    if way == "cancelled" and dice.random() < HANGING:
        return "hangs"
    if way == "resumed" or (way != "parallel" and dice.random() < CLAUDE):
        return None
    (name,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
    assert not SCRIPTS[name].hangs
    return name
