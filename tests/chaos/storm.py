"""Carries a plan out against a real server, many requests at a time, and judges every answer."""

from __future__ import annotations

import http.client
import json
import select
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.modes import LINE_LIMIT_MB, NOT_STARTED, OUTPUT_LIMIT_MB, REQUEST_TIMEOUT_S, SILENCE_LIMIT_S
from tests.chaos.plan import TOKEN, Ask, Leaving, Part
from tests.chaos.ways import Told
from tests.parts.client import Client, Sent, Stream
from tests.parts.clis import FakeCli
from tests.parts.processes import command_line, rss_bytes
from tests.parts.server import Server

MAX_RUNS = 8
MAX_QUEUED = 12
CLIENTS = 15
KEYS = ("alice", "bob", "carol")
ANSWER_S = 60.0
FIRST_TURN = "the first turn"
WITHOUT_A_RUN = ("server.max_queued_runs", "server.queue_timeout_secs")


class Refused(Exception):
    """There was no place for what had to go before."""


def config(fake: FakeCli) -> dict[str, Any]:
    return {
        "default_backend": "claude",
        "backends": {"claude": fake.backend(), "plain": fake.backend("--dialect=text", custom={})},
        "server": {
            "api_keys": [f"{name}=key-of-{name}-0123456789" for name in KEYS],
            "max_concurrent_runs": MAX_RUNS,
            "max_queued_runs": MAX_QUEUED,
            "queue_timeout_secs": 30,
            "request_timeout_secs": REQUEST_TIMEOUT_S,
            "idle_output_timeout_secs": SILENCE_LIMIT_S,
            "line_limit_bytes": LINE_LIMIT_MB << 20,
            "max_output_bytes": OUTPUT_LIMIT_MB << 20,
            "log_format": "json",
        },
    }


def start_server(folder: Path, fake: FakeCli) -> tuple[Server, Path]:
    """The server, and the folder of its temporary files, which is nobody else's."""
    temp = folder / "tmp"
    temp.mkdir()
    server = Server(folder, config(fake), {"TMPDIR": str(temp)})
    server.client = caller(server, 0)
    return server, temp


def caller(server: Server, number: int) -> Client:
    return Client(server.url, {"Authorization": f"Bearer key-of-{KEYS[number]}-0123456789"})


@dataclass(slots=True)
class Figures:
    """What came of a storm."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(way, outcome) of every request."""
    seconds: list[float] = field(default_factory=list)
    """Of the requests that were answered in full."""
    wrong: list[str] = field(default_factory=list)
    starts: Counter[str] = field(default_factory=Counter)
    """How many runs with this token were started, by what the caller was told."""
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
        self._pids = [pid for pid in server.own() if "keeper.py" not in command_line(pid)]
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
        """Where to; for a session's next turn after its first one. Raises Refused."""
        if not ask.way.is_resumed:
            return ask.way.path
        first = self._callers[ask.caller].prompt("claude", FIRST_TURN)
        if first.status == 503 and any(name in first.json["error"]["message"] for name in WITHOUT_A_RUN):
            raise Refused
        assert (first.status, first.json["output"]) == (200, f"You said: {FIRST_TURN}"), first.body
        return ask.way.path.format(first.json["session_id"])

    def _leave(self, ask: Ask, leaving: Leaving, seen: list[str]) -> None:
        if leaving.moment == "while sending":
            return self._send_half(ask, leaving)
        with self._send(ask) as sent, suppress(OSError, http.client.HTTPException, ValueError):
            if leaving.moment == "after sending":
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


def wrongly_started(figures: Figures, fake: FakeCli) -> list[str]:
    """Runs that were started more or less often than their caller was told."""
    starts = Counter(found[0] for report in fake.reports() if (found := TOKEN.findall(report["prompt"])))
    return [
        f"{token} was started {starts[token]} times, and its caller told of {told}"
        for token, told in figures.starts.items()
        if starts[token] != told
    ]
