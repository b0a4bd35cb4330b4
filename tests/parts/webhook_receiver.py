"""A receiver of webhooks on loopback, in the event loop of the test; and a wait that lets that loop run."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, SOCK_STREAM
from time import monotonic
from typing import Any

import gevent
from gevent.server import StreamServer
from gevent.ssl import PROTOCOL_TLS_SERVER, SSLContext

from tests.parts.processes import PATIENCE_S, POLL_S

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answer = bytes | Callable[[Any], None]
"""What is sent back, or a function of the connected socket."""


def status(code: int, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {code} Test", "Content-Length: 0", *lines, "", ""]).encode()


def never(_: Any) -> None:
    """Keep the connection open and say nothing."""
    gevent.sleep(PATIENCE_S)


@dataclass(frozen=True)
class Received:
    line: str
    headers: http.client.HTTPMessage
    body: bytes
    server_name: str | None = None
    """From the TLS handshake."""


class Receiver:
    """``requests`` holds what came; the n-th is answered by the n-th of ``answers``, all later ones by the last."""

    def __init__(self, answers: Sequence[Answer], tls: SSLContext | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open = self.most_open = 0
        self._answers = answers
        self._tls = tls
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port: int = self._server.server_port

    def stop(self) -> None:
        self._server.stop()
        self._server.pool.kill() if self._server.pool else None

    def lookup(self, *more: str) -> Callable[[str, int], list[tuple[Any, ...]]]:
        """A name server for which every name has this receiver's address, and ``more``."""
        return lambda host, port: [(AF_INET, SOCK_STREAM, 6, "", (ip, self.port)) for ip in ("127.0.0.1", *more)]

    def _serve(self, connection: Any, _: Any) -> None:
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        names: list[str | None] = [None]
        try:
            with suppress(OSError), connection:
                if self._tls:
                    self._tls.sni_callback = lambda _connection, name, _context: names.append(name)
                    connection = self._tls.wrap_socket(connection, server_side=True)
                with connection, connection.makefile("rb") as stream:
                    line = stream.readline().decode("latin-1").strip()
                    if not line.endswith("HTTP/1.1"):
                        connection.sendall(status(400))
                        return
                    headers = http.client.parse_headers(stream)
                    body = stream.read(int(headers["Content-Length"]))
                    answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
                    self.requests.append(Received(line, headers, body, names[-1]))
                    answer(connection) if callable(answer) else connection.sendall(answer)
        finally:
            self.open -= 1


@contextmanager
def receiving(*answers: Answer, cert: tuple[Path, Path] | None = None) -> Iterator[Receiver]:
    """``cert``: the files of a certificate and its key; without, the receiver speaks plain HTTP."""
    tls = None
    if cert:
        tls = SSLContext(PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*cert)
    receiver = Receiver(answers or (OK,), tls)
    try:
        yield receiver
    finally:
        receiver.stop()


def soon(check: Callable[[], object], within_s: float = PATIENCE_S) -> bool:
    """`eventually`, for what greenlets of this process do."""
    deadline = monotonic() + within_s
    while not check():
        if monotonic() > deadline:
            return False
        gevent.sleep(POLL_S / 10)
    return True
