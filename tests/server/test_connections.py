"""What only a real connection shows: bodies that are chunked, slow or cut off, clients that do not read, proxies."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pytest

from tests.parts.processes import eventually
from tests.parts.server import Server

HEAD = "POST /api/v1/prompt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
HEALTH = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIMIT = 10_000
ABANDONED = 1000
READ_TIMEOUT_S = 0.5
WRITE_TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {"max_request_body_bytes": LIMIT, "read_timeout_secs": READ_TIMEOUT_S, "write_timeout_secs": WRITE_TIMEOUT_S}
    config = {"default_backend": "demo", "server": {**limits, "trusted_proxies": ["127.0.0.1"], "log_format": "json"}}
    server = Server(tmp_path_factory.mktemp("strict"), config)
    yield server
    server.stop()
    assert not log_lines(server, level="error")


class Wire:
    """Bytes to the server and back."""

    def __init__(self, connection: socket.socket, file: BinaryIO) -> None:
        self.connection = connection
        self._file = file

    def send(self, data: str | bytes) -> None:
        self.connection.sendall(data.encode() if isinstance(data, str) else data)

    def answer(self) -> tuple[int, dict[str, str], Any]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers, json.loads(self._file.read(int(headers["content-length"])))

    def is_closed_by_server(self, within_s: float = 5.0) -> bool:
        self.connection.settimeout(within_s)
        try:
            while self._file.read(65_536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True


@contextmanager
def wire(server: Server, receive_buffer_bytes: int = 0) -> Iterator[Wire]:
    with socket.socket() as connection, connection.makefile("rb") as file:
        if receive_buffer_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.settimeout(10)
        connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
        yield Wire(connection, file)


def log_lines(server: Server, **wanted: Any) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if wanted.items() <= line.items()]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_a_chunked_body_is_read_up_to_the_limit(strict: Server) -> None:
    with wire(strict) as client:
        client.send(HEAD + "Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            client.send(chunk(b" " * (LIMIT // 2)))
        client.send(b"0\r\n\r\n")
        status, headers, body = client.answer()
        assert (status, body["error"]["code"]) == (413, "request_too_large")
        assert headers["x-request-id"] == body["meta"]["request_id"]


def test_an_endless_chunked_body_is_refused_while_it_is_sent(strict: Server) -> None:
    with wire(strict) as client:
        client.send(HEAD + "Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(20):
            client.send(chunk(b" " * 1000))
        assert client.answer()[0] == 413


def test_a_chunked_body_within_the_limit_is_taken(strict: Server) -> None:
    with wire(strict) as client:
        client.send(HEAD + "Transfer-Encoding: chunked\r\n\r\n")
        for part in (b'{"prompt": ', b'"hi", "nonsense": 1}'):
            client.send(chunk(part))
        client.send(b"0\r\n\r\n")
        status, _, body = client.answer()
        assert (status, body["error"]["details"]["field"]) == (400, "nonsense")


def test_a_body_declared_too_large_is_refused_unread(strict: Server) -> None:
    with wire(strict) as client:
        client.send(HEAD + "Content-Length: 1000000000\r\n\r\n")
        assert client.answer()[0] == 413


@pytest.mark.parametrize("framing", ["Content-Length: 500", "Transfer-Encoding: chunked"])
def test_a_body_that_drips_is_given_up_as_a_whole(strict: Server, framing: str) -> None:
    """Each byte comes in time; the body does not."""
    with wire(strict) as client:
        client.send(HEAD + framing + "\r\n\r\n")
        started_at = time.monotonic()
        drip = b"1\r\n \r\n" if "chunked" in framing else b" "
        client.connection.settimeout(0.1)
        status = 0
        while not status and time.monotonic() - started_at < 5:
            client.send(drip)
            try:
                client.connection.recv(1, socket.MSG_PEEK)
            except TimeoutError:
                continue
            client.connection.settimeout(5)
            status, _, body = client.answer()
        assert (status, body["error"]["code"]) == (408, "request_timeout")
        assert "server.read_timeout_secs" in body["error"]["message"]
        assert time.monotonic() - started_at < READ_TIMEOUT_S + 2
        assert client.is_closed_by_server()


def test_a_body_that_is_cut_off_leaves_the_server_well(strict: Server) -> None:
    with wire(strict) as client:
        client.send(HEAD + 'X-Request-ID: cut-off\r\nContent-Length: 500\r\n\r\n{"prompt": ')
    assert eventually(lambda: log_lines(strict, request_id="cut-off", status=400))
    assert strict.client.get("/health").status == 200


@pytest.mark.parametrize("body", ["zz\r\n", "5\r\nabcdefgh\r\n", "-1\r\n"])
def test_a_malformed_chunk_is_the_clients_error(strict: Server, body: str) -> None:
    with wire(strict) as client:
        client.send(HEAD + "Transfer-Encoding: chunked\r\n\r\n" + body)
        status, _, answer = client.answer()
        assert (status, answer["error"]["code"]) == (400, "invalid_request")
        assert client.is_closed_by_server()


def test_a_connection_that_waited_longer_than_a_write_may_take_still_works(strict: Server) -> None:
    with wire(strict) as client:
        for _ in range(2):
            client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.answer()[0] == 200
            client.connection.settimeout(2 * WRITE_TIMEOUT_S)
            with pytest.raises(TimeoutError):  # neither an answer nor the end
                client.connection.recv(1, socket.MSG_PEEK)
            client.connection.settimeout(10)


def test_a_client_that_does_not_read_is_given_up(strict: Server) -> None:
    with wire(strict, receive_buffer_bytes=4096) as client:
        for _ in range(20):
            client.send("GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert eventually(lambda: log_lines(strict, path="/docs/swagger-ui-bundle.js", aborted=True))
    assert strict.client.get("/health").status == 200


def test_the_client_behind_a_proxy_is_in_the_log(strict: Server) -> None:
    strict.client.get("/health", headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.7, 127.0.0.1", "X-Request-ID": "behind"})
    assert eventually(lambda: log_lines(strict, request_id="behind"))
    assert log_lines(strict, request_id="behind")[0]["client"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("sent", "status", "surface"),
    [
        ("\x16\x03\x01 hello\r\n\r\n", 400, "native"),
        ("GET /" + "x" * 9000 + " HTTP/1.1\r\n\r\n", 414, "native"),
        ("GET /api/v1/sessions HTTP/1.1\r\nHost localhost\r\n\r\n", 400, "native"),
        ("GET /openai/v1/models HTTP/1.1\r\nHost localhost\r\n\r\n", 400, "openai"),
        ("POST /anthropic/v1/messages HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, "anthropic"),
        ("POST /openai/v1/responses HTTP/1.1\r\nX: " + "x" * 9000 + "\r\n\r\n", 431, "openai"),
        ("POST /anthropic/v1/messages HTTP/1.1\r\nTransfer-Encoding: odd\r\n\r\n", 501, "anthropic"),
        ("POST /v1/messages HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, "anthropic"),
        ("POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400, "openai"),
    ],
)
def test_what_is_no_http_is_answered_as_everything_else_with_a_request_id(strict: Server, sent: str, status: int, surface: str) -> None:
    with wire(strict) as client:
        client.send(sent)
        answered, headers, body = client.answer()
        request_id = headers["x-request-id"]
    assert (answered, headers["content-type"]) == (status, "application/json")
    match surface:
        case "native":
            assert (body["error"]["code"], body["meta"]["request_id"]) == ("invalid_request", request_id)
        case "openai":
            assert body["error"]["type"] == "invalid_request_error"
        case "anthropic":
            assert (body["type"], body["request_id"], headers["request-id"]) == ("error", request_id, request_id)
    assert eventually(lambda: log_lines(strict, request_id=request_id, logger="clinvk.gunicorn"))


def test_http_1_0_without_a_host_is_served(strict: Server) -> None:
    with wire(strict) as client:
        client.send("GET /health HTTP/1.0\r\n\r\n")
        assert client.answer()[0] == 200


@pytest.mark.parametrize("path", ["/health%0d%0aInjected:%201", "/%1b%5b31m", "/%e2%80%a8", "/%ff%fe"])
def test_a_path_full_of_control_characters_stays_one_log_line(strict: Server, path: str) -> None:
    request_id = "control" + path.replace("%", ".").replace("/", ".").partition(":")[0]
    with wire(strict) as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {request_id}\r\n\r\n")
        status, headers, _ = client.answer()
    assert status == 404
    assert "injected" not in headers
    assert eventually(lambda: log_lines(strict, request_id=request_id))
    assert all(line.isprintable() for line in strict.log().split("\n"))


def test_abandoned_requests_are_not_answered_once_the_worker_is_late(strict: Server) -> None:
    """A thousand requests, sent and abandoned while the worker was stopped, do not stand before the one whose client waits."""
    before = len(log_lines(strict, path="/health"))
    (worker,) = strict.workers()
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(ABANDONED):
            with wire(strict) as client:
                client.send(HEALTH)
        with wire(strict) as last:
            last.send(HEALTH)
            os.kill(worker, signal.SIGCONT)
            assert last.answer()[0] == 200
    finally:
        os.kill(worker, signal.SIGCONT)
    answered = len(log_lines(strict, path="/health")) - before
    assert answered < ABANDONED / 4
