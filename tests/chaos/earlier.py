"""Turns before the one that is judged: what the session's process does when such a turn has ended, and it waits for the next."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.chaos.modes import STOPPED, Steps, Truth
from tests.parts.clis import do

LATER_S = 0.5
"""Long enough for a turn to have ended well before its process misbehaves."""
MOST_TURNS = 4


@dataclass(frozen=True, slots=True)
class Habit:
    """``then``: what the CLI does after its last line. ``is_killed``: by us, as soon as the turn has been answered."""

    then: Steps
    is_killed: bool = False
    excuses: tuple[Truth, ...] = ()
    """What the next turn may be told instead of its own truth."""


STAYS = Habit([])
HANGS = Habit([["last_line"], ["hang"]], excuses=(STOPPED,))
HABITS: dict[str, tuple[Habit, ...]] = {
    "claude": (
        STAYS,
        Habit([], is_killed=True),
        Habit([["last_line"], ["wait", LATER_S], ["die", 9]]),
        Habit([["last_line"], ["wait", LATER_S], ["exit", 0]]),
        Habit([["last_line"], ["wait", LATER_S], ["write", "<html>nobody asked</html>\n"], ["over"]]),
        Habit([["last_line"], ["wait", LATER_S], ["write", '{"type":"resu'], ["over"]]),
        HANGS,
    ),
    "codex": (STAYS, Habit([], is_killed=True)),
}
WEIGHTS = {"claude": (6, 2, 1, 1, 1, 1, 0.5), "codex": (12, 1)}
"""Who kills Codex's process kills that of all its runs."""


@dataclass(frozen=True, slots=True)
class Turn:
    """It is answered with the id of its process."""

    token: str
    prompt: str
    habit: Habit
    pause_s: float
    """From its answer to the next turn."""


def turns(dice: random.Random, backend: str, token: str) -> list[Turn]:
    """All but the last have a process that stays, so that the uses of one add up."""
    count = dice.randint(1, MOST_TURNS)
    last = dice.choices(HABITS[backend], WEIGHTS[backend])[0]
    habits = [*[STAYS] * (count - 1), last]
    return [_turn(token, number, habit, dice.choice((0.0, 0.0, 2 * LATER_S))) for number, habit in enumerate(habits)]


def _turn(token: str, number: int, habit: Habit, pause_s: float) -> Turn:
    name = f"{token[:3]}{number:x}{token[4:]}"
    return Turn(name, do(["pid"], *habit.then, about=name), habit, pause_s)
