"""A plain HTTP client (standard library) whose stream parts have their time of arrival."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Arrival:
    """One part of a stream. ``name`` and ``id`` are an SSE event's; ``at_s`` is the clock of `time.monotonic`."""

    at_s: float
    data: str
    name: str = ""
    id: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class Sent:
    """A request that has been sent. Leaving the ``with`` block closes the connection."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self.connection = connection
        self.socket = connection.sock

    def hang_up(self, *, abruptly: bool = False) -> None:
        """Close the connection: with FIN, or with RST if ``abruptly``. Idempotent."""
        if abruptly and self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()


class Stream:
    """A response in progress. Leaving the ``with`` block closes the connection, even before the end of the response."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent
        self.response = sent.connection.getresponse()
        self.status = self.response.status
        self.headers = self.response.headers

    def lines(self) -> Iterator[Arrival]:
        """NDJSON: one JSON value per line. Empty lines are keep-alives."""
        while line := self.response.readline():
            if line != b"\n":
                yield Arrival(time.monotonic(), line.decode().removesuffix("\n"))

    def events(self) -> Iterator[Arrival]:
        """SSE: one event per empty line. Comments are omitted."""
        fields: dict[str, list[str]] = {}
        while line := self.response.readline():
            name, _, value = line.decode().removesuffix("\n").partition(":")
            if line == b"\n" and fields:
                data, event, id_ = ("\n".join(fields.get(key, [])) for key in ("data", "event", "id"))
                yield Arrival(time.monotonic(), data, event, id_)
                fields = {}
            elif name:
                fields.setdefault(name, []).append(value.removeprefix(" "))

    def hang_up(self, *, abruptly: bool = False) -> None:
        self._sent.hang_up(abruptly=abruptly)
        self.response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()


class Client:
    """A client of one server. Every request has its own connection."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.headers = dict(headers or {})

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> Sent:
        """Send a request without waiting for the response. ``body`` is sent as JSON unless it is bytes."""
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=timeout_s)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, sent | self.headers | dict(headers or {}))
        except BaseException:
            connection.close()
            raise
        return Sent(connection)

    def open(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **more: Any) -> Stream:
        """Send a request and read the response head."""
        sent = self.send(method, path, body, headers, **more)
        try:
            return Stream(sent)
        except BaseException:
            sent.hang_up()
            raise

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
        with self.open(method, path, body, headers, **more) as stream:
            return Answer(stream.status, stream.headers, stream.response.read())

    def get(self, path: str, **more: Any) -> Answer:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> Answer:
        return self.ask("POST", path, body, **more)

    def prompt(self, backend: str, prompt: str, **fields: Any) -> Answer:
        """``POST /api/v1/prompt``, not streamed."""
        return self.post("/api/v1/prompt", {"backend": backend, "prompt": prompt, **fields})

    def prompt_stream(self, backend: str, prompt: str, *, sse: bool = False, **fields: Any) -> Stream:
        """``POST /api/v1/prompt``, streamed as NDJSON or SSE."""
        body = {"backend": backend, "prompt": prompt, "output_format": "stream-json", **fields}
        return self.open("POST", "/api/v1/prompt", body, {"Accept": "text/event-stream"} if sse else None)
