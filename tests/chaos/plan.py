"""A random list of requests, the same for the same seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.modes import BAD, GOOD, MODES, NOT_STARTED, STUCK, Truth
from tests.chaos.ways import WAYS, Way
from tests.parts.clis import do

TOKEN = re.compile(r"tkn[0-9a-f]{16}z")
LEAVERS = 0.25
MOMENTS = ("while sending", "after sending", "after the head", "in the stream")


@dataclass(frozen=True, slots=True)
class Part:
    """One run of a request. ``token`` is in its prompt and nobody else's, and comes first there."""

    mode: str
    backend: str
    token: str
    prompt: str
    truth: Truth


@dataclass(frozen=True, slots=True)
class Leaving:
    """When a client goes, and how: with a FIN or, ``abruptly``, with a RST."""

    moment: str
    abruptly: bool
    after_s: float
    after_lines: int


@dataclass(frozen=True, slots=True)
class Ask:
    number: int
    way: Way
    parts: Sequence[Part]
    leaving: Leaving | None
    caller: int

    def __str__(self) -> str:
        how = f", leaves {self.leaving.moment}" if self.leaving else ""
        return f"#{self.number} {self.way.name} ({'; '.join(f'{part.backend} {part.mode}' for part in self.parts)}){how}"


def plan(seed: int, ways: Sequence[Way] = WAYS) -> Iterator[Ask]:
    """Requests without end."""
    dice = random.Random(seed)
    number = 0
    while True:
        number += 1
        way = dice.choice(ways)
        leaving = _leaving(dice, way) if dice.random() < LEAVERS else None
        parts = _compared(dice) if way.name.startswith("compare") else _parts(dice, way, is_left=leaving is not None)
        yield Ask(number, way, parts, leaving, dice.randrange(3))


def _leaving(dice: random.Random, way: Way) -> Leaving:
    moments = MOMENTS if way.is_stream else MOMENTS[:2]
    return Leaving(dice.choice(moments), dice.random() < 0.5, dice.random() * 0.8, dice.randrange(1, 12))


def _parts(dice: random.Random, way: Way, *, is_left: bool) -> list[Part]:
    count = dice.randint(*way.runs)
    parts = [_part(dice, _mode(dice, is_left=is_left)) for _ in range(count)]
    if not way.is_chain:
        return parts
    # Every step but the first is told what the one before it said, and repeats it.
    for index in range(1, count):
        before, token = parts[index - 1], _token(dice)
        prompt = f"{token} after {{{{previous}}}}"
        said = f"You said: {token} after {before.truth.text}"
        truth = Truth(said) if before.truth.text is not None else Truth(code="cancelled", words=NOT_STARTED)
        parts[index] = Part("repeats", "claude", token, prompt, truth)
    return parts


def _compared(dice: random.Random) -> list[Part]:
    """One prompt on two CLIs, of which one writes plain text."""
    one = _part(dice, dice.choice([name for name in {**GOOD, **BAD} if MODES[name].any_dialect]))
    return [one, Part(one.mode, "plain", one.token, one.prompt, one.truth)]


def _mode(dice: random.Random, *, is_left: bool) -> str:
    """Those that are stuck cost their time limit, unless the client does not wait for it."""
    kind = dice.choices((GOOD, BAD, STUCK), weights=(4, 4, 4) if is_left else (10, 8, 1))[0]
    return dice.choice(list(kind))


def _part(dice: random.Random, mode: str) -> Part:
    token = _token(dice)
    return Part(mode, "claude", token, do(*MODES[mode].script(token), about=token), MODES[mode].truth(token))


def _token(dice: random.Random) -> str:
    return f"tkn{dice.getrandbits(64):016x}z"
