"""The fake model API's HTTP server: selects the script for a request, records requests, detects client disconnects."""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import anthropic, gemini, responses
from .plan import Reply, Script

DIALECTS = {"anthropic": anthropic, "responses": responses, "gemini": gemini}
LOOK_EVERY_S = 0.02
"""Interval at which a waiting stream checks for a client disconnect."""


class ClientLeft(Exception):
    """The client closed its connection during a response."""


@dataclass
class RequestRecord:
    """One request and its outcome."""

    dialect: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    reply: Reply
    tokens_sent: int = 0
    client_left: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def model(self) -> str:
        return DIALECTS[self.dialect].model(self.path, self.body)

    @property
    def user_texts(self) -> list[str]:
        """The user texts in order, one entry per part."""
        return [text for kind, text in DIALECTS[self.dialect].conversation(self.body) if kind == "user"]

    @property
    def tool_results(self) -> list[str]:
        return [text for kind, text in DIALECTS[self.dialect].conversation(self.body) if kind == "result"]

    @property
    def system_text(self) -> str:
        return DIALECTS[self.dialect].system_text(self.body)

    def mentions(self, text: str) -> bool:
        """Whether ``text`` occurs in a value or key of the request body, after JSON decoding."""
        return any(text in string for string in strings(self.body))


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


class FakeModelApi:
    """Started with `start`, scripted with `script`; records all requests in `exchanges`."""

    def __init__(self) -> None:
        self.exchanges: list[RequestRecord] = []
        self.scripts: list[Script] = []
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def start(self) -> FakeModelApi:
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def script(self, match: str, *replies: Reply, dialect: str = "") -> None:
        """Answer conversations whose last matching user text contains ``match``. The newest of equal scripts wins."""
        self.scripts.insert(0, Script(match, replies or (Reply(),), dialect))

    def forget(self) -> None:
        """Remove all scripts and exchanges."""
        self.scripts.clear()
        self.exchanges.clear()

    def release_all(self) -> None:
        """Release every response that waits at a `Hold`."""
        for hold in (reply.hold for script in self.scripts for reply in script.replies):
            if hold:
                hold.release()

    def about(self, text: str) -> list[RequestRecord]:
        """The exchanges whose user text contains ``text``."""
        return [exchange for exchange in list(self.exchanges) if any(text in said for said in exchange.user_texts)]

    def last(self, dialect: str) -> RequestRecord:
        return [exchange for exchange in list(self.exchanges) if exchange.dialect == dialect][-1]

    def last_user_text(self, dialect: str) -> str:
        return self.last(dialect).user_texts[-1]

    def system_text(self, dialect: str) -> str:
        return self.last(dialect).system_text

    def mentions(self, text: str) -> bool:
        """Whether ``text`` is in the body of any request so far."""
        return any(exchange.mentions(text) for exchange in list(self.exchanges))

    def reply_to(self, dialect: str, body: dict[str, Any]) -> Reply:
        found, results = None, 0
        for kind, text in DIALECTS[dialect].conversation(body):
            if kind == "result":
                results += 1
            elif script := next((one for one in self.scripts if one.match in text and one.dialect in ("", dialect)), None):
                found, results = script, 0
        return found.reply(results) if found else Reply()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    api: FakeModelApi

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [], "models": [], "has_more": False})

    def do_POST(self) -> None:
        raw = self._body()
        path = self.path.split("?")[0]
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            return self._json(400, {"error": {"message": "the body is not JSON"}})
        if path.endswith(("/count_tokens", ":countTokens")):
            return self._json(200, {"input_tokens": len(raw) // 4, "totalTokens": len(raw) // 4})
        dialect = next((name for name, module in DIALECTS.items() if module.answers(path)), None)
        if dialect is None:
            return self._json(404, {"error": {"message": f"no such route: {path}"}})
        api = self.server.api
        exchange = RequestRecord(dialect, path, dict(self.headers.items()), body, api.reply_to(dialect, body))
        api.exchanges.append(exchange)
        try:
            self._answer(exchange)
        except ClientLeft:
            exchange.client_left.set()
            self.close_connection = True
        finally:
            exchange.ended.set()

    def _answer(self, exchange: RequestRecord) -> None:
        module, reply = DIALECTS[exchange.dialect], exchange.reply
        if reply.status != 200:
            headers = {} if reply.retry_after_s is None else {"Retry-After": str(reply.retry_after_s)}
            return self._json(reply.status, reply.error or module.error(reply.status, reply.message), {**headers, **reply.headers})
        while reply.hang:
            self._wait(LOOK_EVERY_S)
        if not module.wants_stream(exchange.path, exchange.body):
            exchange.tokens_sent = len(reply.pieces)
            return self._json(200, module.whole(reply, exchange.model), reply.headers)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for event in module.stream(reply, exchange.model, self._paced(exchange)):
            name = f"event: {event['type']}\n" if "type" in event else ""
            # Gemini's SDK (1.x) parses SSE with a pattern whose `.` stops at a raw U+2028, and fails on the event.
            data = json.dumps(event, ensure_ascii=False).replace("\u2028", "\\u2028")
            self._chunk(f"{name}data: {data}\n\n".encode())
        return self._chunk(b"")

    def _paced(self, exchange: RequestRecord) -> Iterator[str | None]:
        """Yield the tokens of the reply at their times; None where the stream is to fail."""
        reply = exchange.reply
        for i, token in enumerate(reply.pieces):
            while reply.hold and i >= reply.hold.allowed:
                self._wait(LOOK_EVERY_S)
            if i and reply.delay_s:
                self._wait(reply.delay_s)
            if i == reply.cut_after:
                self.connection.shutdown(socket.SHUT_RDWR)
                raise ClientLeft
            if i == reply.fail_after:
                yield None
                return
            exchange.tokens_sent += 1
            yield token

    def _wait(self, seconds: float) -> None:
        """Sleep. Raises ClientLeft as soon as the client disconnects or the API is stopped."""
        until = time.monotonic() + seconds
        while True:
            left_s = until - time.monotonic()
            if self.server.api.stopping.is_set():
                raise ClientLeft
            try:
                readable, _, _ = select.select([self.connection], [], [], max(0, min(left_s, LOOK_EVERY_S)))
                if readable and not self.connection.recv(1, socket.MSG_PEEK):
                    raise ClientLeft
            except OSError as error:
                raise ClientLeft from error
            if left_s <= 0:
                return

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _chunk(self, data: bytes) -> None:
        try:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        except OSError as error:
            raise ClientLeft from error

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value, ensure_ascii=False).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, text in (headers or {}).items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True
