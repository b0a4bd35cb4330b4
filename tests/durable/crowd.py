"""Carries a plan out, many clients at a time, while the server is killed."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.durable.lives import KILLS, Lives
from tests.durable.plan import Ask
from tests.durable.ways import CARRY_OUT, Customer, Entry, Unknown

CLIENTS = 32
PARTS = 3
"""Of a parallel run."""
FIRST_KILL, LAST_KILL = 0.02, 0.97
"""Kills lie between these shares of the plan."""


class Crowd:
    """``entries`` are the runs that were asked for, ``wrong`` what clients were told and must not be, in words."""

    def __init__(self, lives: Lives, starts: Path) -> None:
        self._lives = lives
        self._starts = starts
        self._lock = threading.Lock()
        self._is_without_server = False
        self.entries: list[Entry] = []
        self.wrong: list[str] = []
        self.seconds: list[float] = []
        """From each submission to the end of what its client does."""

    def go(self, asks: Iterator[Ask], count: int, kills: int, dice: random.Random) -> None:
        """Carry out ``count`` of ``asks``, and kill the server ``kills`` times meanwhile."""
        is_over = threading.Event()
        moments = sorted(round(count * dice.uniform(FIRST_KILL, LAST_KILL)) for _ in range(kills))
        killer = threading.Thread(target=self._kill_at, args=(moments, dice, is_over))
        memory = threading.Thread(target=self._lives.watch_memory, args=(is_over,))
        killer.start()
        memory.start()
        try:
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(lambda _: self._be_client(asks, count), range(CLIENTS)))
        finally:
            is_over.set()
            killer.join()
            memory.join()

    def _be_client(self, asks: Iterator[Ask], count: int) -> None:
        while True:
            with self._lock:
                if len(self.entries) == count or self._is_without_server:
                    return
                ask = next(asks)
                entry = Entry(ask, _tokens(ask))
                self.entries.append(entry)
            self._carry_out(entry)

    def _carry_out(self, entry: Entry) -> None:
        begun = time.monotonic()
        try:
            CARRY_OUT[entry.ask.way](Customer(lambda: self._lives.client, entry, self._starts))
        except Unknown:
            entry.is_unknown = True
        except Exception as error:
            with self._lock:
                self.wrong.append(f"{entry.ask} {entry.id}: {type(error).__name__}: {error}"[:1500])
        self.seconds.append(time.monotonic() - begun)

    def _kill_at(self, moments: Sequence[int], dice: random.Random, is_over: threading.Event) -> None:
        ways = itertools.cycle(dice.sample(list(KILLS), len(KILLS)))
        for moment, way in zip(moments, ways, strict=False):
            while len(self.entries) < moment and not is_over.is_set():
                is_over.wait(0.01)
            is_over.wait(dice.uniform(0, 0.5))  # some moment, not a certain one
            try:
                self._lives.kill(way, dice)
            except Exception as error:
                with self._lock:
                    self.wrong.append(f"after killing {way}: {type(error).__name__}: {error}"[:1500])
                    self._is_without_server = not self._lives.server.is_up()


def _tokens(ask: Ask) -> tuple[str, ...]:
    return tuple(f"{ask.token}-{part}" for part in range(PARTS)) if ask.way == "parallel" else (ask.token,)
