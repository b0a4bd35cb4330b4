"""A random list of requests, the same for the same seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.chaos.earlier import Turn, turns
from tests.chaos.modes import BAD, FELLED, GOOD, MODES, NOT_STARTED, STUCK, Truth, weight
from tests.chaos.ways import WAYS, Way
from tests.parts.clis import do

TOKEN = re.compile(r"tkn[0-9a-f]{16}z")
LEAVERS = 0.25
SHARERS = 0.25
"""So many runs are in Codex's shared process."""
MOMENTS = ("while sending", "after sending", "after one more byte", "after the head", "in the stream")


@dataclass(frozen=True, slots=True)
class Part:
    """One run of a request. ``token`` is in its prompt and nobody else's, and comes first there."""

    mode: str
    backend: str
    token: str
    prompt: str
    truth: Truth
    excuses: tuple[Truth, ...] = ()
    """What else may be true: what happened to its process was not its own doing."""


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
    before: Sequence[Turn] = ()
    """Of a session that is resumed."""

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
        before = turns(dice, parts[0].backend, _token(dice)) if way.is_resumed else ()
        if before:
            parts[0] = replace(parts[0], excuses=(*parts[0].excuses, *before[-1].habit.excuses))
        yield Ask(number, way, parts, leaving, dice.randrange(3), before)


def _leaving(dice: random.Random, way: Way) -> Leaving:
    moments = MOMENTS if way.is_stream else MOMENTS[:3]
    return Leaving(dice.choice(moments), dice.random() < 0.5, dice.random() * 0.8, dice.randrange(1, 12))


def _parts(dice: random.Random, way: Way, *, is_left: bool) -> list[Part]:
    count = dice.randint(*way.runs)
    backends = ["codex" if dice.random() < SHARERS else "claude" for _ in range(count)]
    parts = [_part(dice, _mode(dice, backend, is_left=is_left), backend) for backend in backends]
    if not way.is_chain:
        return parts
    # Every step but the first is told what the one before it said, and repeats it.
    for index in range(1, count):
        before, token = parts[index - 1], _token(dice)
        excuses = (Truth(code="cancelled", words=NOT_STARTED),) if before.excuses else ()
        prompt = f"{token} after {{{{previous}}}}"
        said = f"You said: {token} after {before.truth.text}"
        truth = Truth(said) if before.truth.text is not None else Truth(code="cancelled", words=NOT_STARTED)
        parts[index] = Part("repeats", "claude", token, prompt, truth, excuses)
    return parts


def _compared(dice: random.Random) -> list[Part]:
    """One prompt on two CLIs, of which one writes plain text."""
    one = _part(dice, dice.choice([name for name in {**GOOD, **BAD} if MODES[name].any_dialect]))
    return [one, Part(one.mode, "plain", one.token, one.prompt, one.truth)]


def _mode(dice: random.Random, backend: str, *, is_left: bool) -> str:
    """Those that are stuck cost their time limit, unless the client does not wait for it."""
    kind = dice.choices((GOOD, BAD, STUCK), weights=(4, 4, 4) if is_left else (10, 8, 1))[0]
    return dice.choices(list(kind), [weight(mode, backend) for mode in kind])[0]


def _part(dice: random.Random, mode: str, backend: str = "claude") -> Part:
    token = _token(dice)
    excuses = FELLED if backend == "codex" else ()
    return Part(mode, backend, token, do(*MODES[mode].script(token), about=token), MODES[mode].truth(token), excuses)


def _token(dice: random.Random) -> str:
    return f"tkn{dice.getrandbits(64):016x}z"
