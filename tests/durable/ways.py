"""What a client does with its run, and what it must be told meanwhile. Every way ends when the run has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.durable.plan import Ask, Way
from tests.durable.reader import LOST, Reader
from tests.durable.scripts import to_claude_prompt, to_prompt
from tests.parts.client import Answer, Client, Stream

T = TypeVar("T")

PATIENCE_S = 180.0
"""For one run, kills of the server included."""
PAUSE_S = 0.05
ENDED = ("completed", "failed", "cancelled")
PROMPT, PARALLEL, RUNS = "/api/v1/prompt", "/api/v1/parallel", "/api/v1/runs"
SSE = {"Accept": "text/event-stream"}


class Unknown(Exception):
    """The connection broke before the answer: nobody knows whether there is a run."""


@dataclass(slots=True)
class Entry:
    """What a client knows of one run. ``tokens``: of the run's parts, each started once."""

    ask: Ask
    tokens: tuple[str, ...]
    id: str = ""
    is_unknown: bool = False
    is_deleted: bool = False
    readers: list[Reader] = field(default_factory=list)
    answer: Answer | None = None
    """Of a foreground run."""
    others: list[str] = field(default_factory=list)
    """Runs of the same client besides this one, also to be looked at."""


class Customer:
    """One client. ``client`` reaches the server that lives now."""

    def __init__(self, client: Callable[[], Client], entry: Entry, starts: Path) -> None:
        self.client = client
        self.entry = entry
        self.ask = entry.ask
        self.dice = entry.ask.dice
        self._starts = starts
        self._deadline = time.monotonic() + PATIENCE_S

    def insist(self, send: Callable[[Client], T]) -> T:
        """Repeat a request that may be repeated, until the server answers."""
        while True:
            try:
                return send(self.client())
            except LOST:
                self.pause()

    def pause(self, seconds: float = PAUSE_S) -> None:
        assert time.monotonic() < self._deadline, f"{self.ask}: not over after {PATIENCE_S} s"
        time.sleep(seconds)

    def body(self, **more: Any) -> dict[str, Any]:
        """Of a request for this run in the background."""
        one = {"backend": "sh" if self.ask.script else "claude", "prompt": self.prompt(self.ask.token)}
        return {**one, "background": True, "metadata": {"token": self.ask.token}, **more}

    def prompt(self, token: str) -> str:
        return to_prompt(self.ask.script, token, self._starts) if self.ask.script else to_claude_prompt(token, self._starts)

    def submit(self, path: str = PROMPT, **more: Any) -> Stream:
        """Ask for the run once, and read the head of the answer. Raises Unknown."""
        headers: Mapping[str, str] = more.pop("headers", {})
        while True:
            try:
                sent = self.client().send("POST", path, self.body(**more), headers)
            except ConnectionRefusedError:  # nobody has received it
                self.pause()
                continue
            except LOST as error:
                raise Unknown from error
            try:
                return Stream(sent)
            except LOST as error:
                sent.hang_up()
                raise Unknown from error

    def accept(self, answer: Answer) -> None:
        """Note the run of a 202."""
        assert answer.status == 202, f"{answer.status} {answer.body!r}"
        run = answer.json
        assert run["metadata"].get("token", self.ask.token) == self.ask.token
        assert answer.headers["Location"] == f"{RUNS}/{run['id']}"
        assert self.entry.id in ("", run["id"]), f"a second run: {run['id']}"
        self.entry.id = run["id"]

    def begin(self, path: str = PROMPT, **more: Any) -> None:
        """Submit the run. Raises Unknown."""
        with self.submit(path, **more) as stream:
            try:
                answer = Answer(stream.status, stream.headers, stream.response.read())
            except LOST as error:
                raise Unknown from error
        self.accept(answer)

    def run(self, wait_s: float = 0.0) -> dict[str, Any]:
        answer = self.insist(lambda client: client.get(f"{RUNS}/{self.entry.id}?wait={wait_s:.2f}"))
        assert answer.status == 200, f"{answer.status} {answer.body!r}"
        found: dict[str, Any] = answer.json
        return found

    def await_end(self) -> dict[str, Any]:
        while (run := self.run(self.dice.uniform(0.5, 20)))["status"] not in ENDED:
            self.pause()
        return run

    def reader(self) -> Reader:
        self.entry.readers.append(Reader(f"{self.ask} {self.entry.id}"))
        return self.entry.readers[-1]

    def follow(self, reader: Reader) -> None:
        """Read to the end, leaving and coming back at random."""
        reader.follow(self._connect, lambda: self.dice.randint(1, 5) if self.dice.random() < 0.35 else None, self.pause)

    def _connect(self, last: int) -> Stream:
        how = {"Last-Event-ID": str(last)} if last and self.dice.random() < 0.7 else {}
        query = f"?after={last}" if not how else ""
        return self.client().open("GET", f"{RUNS}/{self.entry.id}/events{query}", headers=how)


def followed(customer: Customer, **more: Any) -> None:
    customer.begin(**more)
    customer.follow(customer.reader())


def streamed(customer: Customer) -> None:
    with customer.submit(headers=SSE) as stream:
        assert stream.status == 200, stream.response.read()
        customer.entry.id = stream.headers["X-Clinvk-Run-Id"]
        reader = customer.reader()
        with suppress(*LOST):
            reader.read(stream, customer.dice.choice((None, 1, 3)))
    customer.follow(reader)


def polled(customer: Customer) -> None:
    customer.begin()
    customer.await_end()


def same_key_at_once(customer: Customer) -> None:
    body, headers = customer.body(), {"Idempotency-Key": customer.ask.token}

    def send(_: int = 0) -> Answer:
        return customer.insist(lambda client: client.post(PROMPT, body, headers=headers))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(send, range(customer.dice.randint(2, 4))))
    for answer in answers:
        customer.accept(answer)
    customer.follow(customer.reader())
    again = send()
    customer.accept(again)
    assert again.headers["Idempotent-Replayed"] == "true"
    other = customer.insist(lambda client: client.post(PROMPT, body | {"title": "another"}, headers=headers))
    assert (other.status, other.headers["x-should-retry"]) == (409, "false"), other.body


def cancelled(customer: Customer) -> None:
    customer.begin()
    time.sleep(customer.dice.choice((0.0, 0.1, 0.5)))
    answer = customer.insist(lambda client: client.post(f"{RUNS}/{customer.entry.id}/cancel", None))
    status = answer.json["status"]
    assert answer.status == (200 if status in ENDED else 202), f"{answer.status} {answer.body!r}"
    customer.follow(customer.reader())


def deleted(customer: Customer) -> None:
    customer.begin()
    path = f"{RUNS}/{customer.entry.id}"
    early = customer.insist(lambda client: client.ask("DELETE", path))
    assert early.status in (204, 404, 409), early.body  # 404: repeated after a lost answer
    if early.status == 409:
        customer.await_end()
        assert customer.insist(lambda client: client.ask("DELETE", path)).status in (204, 404)
    customer.entry.is_deleted = True
    for gone in (path, f"{path}/events"):
        assert customer.insist(lambda client, gone=gone: client.get(gone)).status == 404  # type: ignore[misc]


def retried(customer: Customer) -> None:
    followed(customer, on_worker_lost="retry")


def kept(customer: Customer) -> None:
    """A foreground run with a key: whatever happens, the key answers with what became of it."""
    body, headers = customer.body(background=False), {"Idempotency-Key": customer.ask.token}

    def answer() -> Answer:
        while (found := customer.insist(lambda client: client.post(PROMPT, body, headers=headers))).status == 409:
            assert float(found.headers["Retry-After"]) > 0, found.body
            customer.pause()
        return found

    first, again = answer(), answer()
    assert (first.status, first.body) == (again.status, again.body), f"{first} {again}"
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.status == 200 or first.json["error"]["code"] == "worker_lost", first.body
    customer.entry.id, customer.entry.answer = first.headers["X-Clinvk-Run-Id"], first


def kept_stream(customer: Customer) -> None:
    try:
        with customer.submit(background=False, headers={"Idempotency-Key": customer.ask.token, **SSE}) as stream:
            assert stream.status == 200, stream.response.read()
            customer.entry.id = stream.headers["X-Clinvk-Run-Id"]
            reader = customer.reader()
            with suppress(*LOST):
                reader.read(stream)
    except Unknown:
        kept(customer)
        customer.entry.answer = None  # a stream, or an error
        reader = customer.reader()
    customer.follow(reader)


def read_twice(customer: Customer) -> None:
    customer.begin()
    readers = [customer.reader(), customer.reader()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(customer.follow, readers))


def parallel(customer: Customer) -> None:
    body = {"background": True, "tasks": [{"backend": "sh", "prompt": customer.prompt(token)} for token in customer.entry.tokens]}
    headers = {"Idempotency-Key": customer.ask.token}
    customer.accept(customer.insist(lambda client: client.post(PARALLEL, body, headers=headers)))
    customer.follow(customer.reader())


def resumed(customer: Customer) -> None:
    """Two turns at once of the session that the run has made: one of them, or both where the first had ended."""
    followed(customer)
    run = customer.run()
    if run["status"] != "completed":
        return
    path = f"/api/v1/sessions/{run['session_id']}/resume"

    def send(_: int) -> Answer | None:
        try:
            return customer.client().post(path, {"prompt": "hello", "background": True})
        except LOST:
            return None

    with ThreadPoolExecutor(2) as pool:
        answers = [answer for answer in pool.map(send, range(2)) if answer]
    assert all(answer.status in (202, 409) for answer in answers), answers
    customer.entry.others = [answer.json["id"] for answer in answers if answer.status == 202]


CARRY_OUT: Mapping[Way, Callable[[Customer], None]] = {
    "followed": followed,
    "streamed": streamed,
    "polled": polled,
    "same key at once": same_key_at_once,
    "cancelled": cancelled,
    "deleted": deleted,
    "retried": retried,
    "kept": kept,
    "kept stream": kept_stream,
    "read twice": read_twice,
    "parallel": parallel,
    "resumed": resumed,
}
