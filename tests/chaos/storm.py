"""Carries a plan out against a real server, many requests at a time, and judges every answer."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.chaos.modes import FELLED, NOT_STARTED
from tests.chaos.plan import TOKEN, Ask, Leaving, Part
from tests.chaos.setting import KEYS, caller
from tests.chaos.ways import Told
from tests.parts.client import Sent, Stream
from tests.parts.clis import FakeCli
from tests.parts.processes import command_line, rss_bytes
from tests.parts.server import Server

CLIENTS = 15
ANSWER_S = 60.0
WITHOUT_A_RUN = ("server.max_queued_runs", "server.queue_timeout_secs")


class Refused(Exception):
    """There was no place for what had to go before."""


@dataclass(slots=True)
class Figures:
    """What came of a storm."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(way, outcome) of every request."""
    seconds: list[float] = field(default_factory=list)
    """Of the requests that were answered in full."""
    wrong: list[str] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    """How many runs with this token were started, by what the caller was told; if he left, how many at most."""
    unsure: set[str] = field(default_factory=set)
    """Tokens of runs of which it is not known whether their prompt was read."""
    most_rss_bytes: int = 0

    def total(self, outcome: str = "") -> int:
        return sum(count for (_, found), count in self.outcomes.items() if not outcome or found == outcome)

    def percentile(self, share: int) -> float:
        return statistics.quantiles(self.seconds, n=100)[share - 1] if len(self.seconds) > 1 else 0.0


class Storm:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._callers = [caller(server, number) for number in range(len(KEYS))]
        self._lock = threading.Lock()
        self._pids = [server.pid, *server.workers()]
        self.figures = Figures()

    def blow(self, asks: Iterator[Ask], clients: int = CLIENTS) -> Figures:
        """Until ``asks`` ends."""

        def client() -> None:
            while True:
                with self._lock:
                    ask = next(asks, None)
                if ask is None:
                    return
                self._carry_out(ask)

        with ThreadPoolExecutor(clients) as pool:
            for done in [pool.submit(client) for _ in range(clients)]:
                done.result()
        return self.figures

    def _carry_out(self, ask: Ask) -> None:
        begun = time.monotonic()
        seen: list[str] = []
        try:
            if ask.leaving:
                self._expect_at_most(ask)
                self._leave(ask, ask.leaving, seen)
                outcome = "left"
            else:
                with self._send(ask) as sent, Stream(sent) as stream:
                    told = ask.way.tells(stream, seen)
                    assert stream.response.read() == b"", "something follows the end"
                outcome = self._judge(ask, told)
            strangers = {token for text in seen for token in TOKEN.findall(text)} - {part.token for part in ask.parts}
            assert not strangers, f"holds what belongs to others: {strangers}"
        except Refused:
            outcome = "refused"
        except Exception as error:
            outcome = "wrong"
            self.figures.wrong.append(f"{ask}: {type(error).__name__}: {error}; read: {''.join(seen)[-600:]}")
        with self._lock:
            self.figures.outcomes[ask.way.name, outcome] += 1
            if outcome in ("answered", "failed", "mixed"):
                self.figures.seconds.append(time.monotonic() - begun)
            self.figures.most_rss_bytes = max(self.figures.most_rss_bytes, *map(rss_bytes, self._pids))

    def _send(self, ask: Ask) -> Sent:
        way, client = ask.way, self._callers[ask.caller]
        return client.send("POST", self._path(ask), way.body(ask.parts), way.headers, timeout_s=ANSWER_S)

    def _path(self, ask: Ask) -> str:
        """Where to; for a session's next turn after those that go before. Raises Refused."""
        client, path = self._callers[ask.caller], ask.way.path
        for number, turn in enumerate(ask.before):
            self.figures.starts[turn.token] += 1
            self.figures.unsure.add(turn.token)
            answer = client.post(path, {"prompt": turn.prompt}) if number else client.prompt(ask.parts[0].backend, turn.prompt)
            told = answer.json["error"]
            message = told["message"] if isinstance(told, dict) else told or ""
            if any(words in message for words in (*WITHOUT_A_RUN, *(felled.words for felled in FELLED))):
                raise Refused
            assert answer.status == 200, answer.body
            assert not message, message
            self.figures.unsure.remove(turn.token)
            pid = int(answer.json["output"])
            path = ask.way.path.format(answer.json["session_id"])
            if turn.habit.is_killed and "fake_" in command_line(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(turn.pause_s)
        return path

    def _expect_at_most(self, ask: Ask) -> None:
        for part in ask.parts:
            self.figures.starts[part.token] += 1
            self.figures.unsure.add(part.token)

    def _leave(self, ask: Ask, leaving: Leaving, seen: list[str]) -> None:
        if leaving.moment == "while sending":
            return self._send_half(ask, leaving)
        with self._send(ask) as sent, suppress(OSError, http.client.HTTPException, ValueError):
            if leaving.moment == "after one more byte":
                sent.socket.sendall(b"\n")
            if leaving.moment in ("after sending", "after one more byte"):
                select.select([sent.socket], [], [], leaving.after_s)
            else:
                stream = Stream(sent)
                lines = leaving.after_lines if leaving.moment == "in the stream" else 0
                seen += (stream.response.readline().decode() for _ in range(lines))
            sent.hang_up(abruptly=leaving.abruptly)
        return None

    def _send_half(self, ask: Ask, leaving: Leaving) -> None:
        path, data = self._path(ask), json.dumps(ask.way.body(ask.parts)).encode()
        where = urlsplit(self._server.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=ANSWER_S)
        headers = self._callers[ask.caller].headers | {"Content-Type": "application/json", "Content-Length": str(len(data))}
        connection.putrequest("POST", path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(data[: len(data) // 2])
        Sent(connection).hang_up(abruptly=leaving.abruptly)

    def _judge(self, ask: Ask, told: list[Told]) -> str:
        """The outcome. Raises AssertionError where the caller was told anything but the truth."""
        if len(told) == 1 and told[0].status != 200 and _was_refused(told[0]):
            assert told[0].status == 503
            self.figures.starts.update({part.token: 0 for part in ask.parts})
            return "refused"
        if len(told) == 1 and len(ask.parts) > 1:
            raise AssertionError(f"refused: {told[0]}")
        assert len(told) == len(ask.parts), f"{len(told)} results of {len(ask.parts)} runs"
        # A step after one that was refused its place is not started either.
        outcomes = []
        for part, one in zip(ask.parts, told, strict=True):
            outcomes.append("refused" if "refused" in outcomes and ask.way.is_chain else self._judge_run(ask, part, one))
        return outcomes[0] if len(set(outcomes)) == 1 else "mixed"

    def _judge_run(self, ask: Ask, part: Part, told: Told) -> str:
        truth = part.truth
        if told.error and _was_refused(told):
            self.figures.starts[part.token] += 0
            return "refused"
        for excuse in part.excuses if told.error else ():
            if excuse.words in (told.error or "") and told.code in (None, excuse.code):
                self.figures.starts[part.token] += 1
                self.figures.unsure.add(part.token)
                return "failed"
        if truth.text is not None:
            assert told.error is None, f"{part.mode} was told as the failure {told.error!r}"
            assert told.text == truth.text, f"{part.mode} answered {told.text[-300:]!r} instead of {truth.text[-300:]!r}"
            self.figures.starts[part.token] += 1
            return "answered"
        assert told.error, f"{part.mode} was told as the answer {told.text[-300:]!r}"
        assert truth.words in told.error, f"{part.mode} was told as {told.error!r}, without {truth.words!r}"
        assert told.code in (None, truth.code), f"{part.mode} has the code {told.code}, not {truth.code}"
        if told.status != 200:
            assert told.status == ask.way.statuses[truth.code], f"{part.mode} has the status {told.status}"
            assert told.retries == "false", f"{part.mode} may be repeated"
        self.figures.starts[part.token] += truth.words != NOT_STARTED
        return "failed"


def _was_refused(told: Told) -> bool:
    return any(name in (told.error or "") for name in WITHOUT_A_RUN)


def wrongly_started(figures: Figures, fake: FakeCli, fallbacks: int) -> list[str]:
    """Runs that were started more or less often than their caller was told.

    ``fallbacks``: so many runs broke in a warm process before they had said anything, and were started once more.
    """
    starts = Counter(found[0] for report in fake.reports() if (found := TOKEN.findall(report["prompt"])))
    more = {token: starts[token] - told for token, told in figures.starts.items() if starts[token] > told}
    less = {token for token, told in figures.starts.items() if starts[token] < told} - figures.unsure
    wrong = [f"{token} was started {starts[token]} times, and its caller told of {figures.starts[token]}" for token in less]
    if sum(more.values()) > fallbacks or any(count > figures.starts[token] for token, count in more.items()):
        wrong.append(f"{fallbacks} runs were started once more, and these too often: {more}")
    return wrong
