"""A server as the commands see it: JSON in, JSON or its lines out. Nothing is printed here."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from services import depth

CONNECT_TIMEOUT_S = 10.0
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Finds within a minute that the other end has vanished without closing the connection; with the system's defaults that takes hours."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class NotReachable(Exception):
    """There is no server, it went away, or it is none of ours."""


class Refused(Exception):
    """The server answered with an error. ``has_run``: a CLI had been started. ``hint``: what to do, if the message does not say."""

    def __init__(self, status: int, body: Mapping[str, Any], *, has_run: bool) -> None:
        error = body.get("error")
        self.body = body
        self.status = status
        self.has_run = has_run
        self.hint = ""
        super().__init__(error.get("message") if isinstance(error, Mapping) else f"the server answered with status {status}")


class ServerEvent(NamedTuple):
    """A server-sent event. ``number``: its id, if that is a number."""

    number: int | None
    data: str


class Remote:
    """One server. Every request has its own connection, which is closed with it: then the server stops what it runs."""

    def __init__(self, url: str, key: str = "", *, answer_timeout_s: float | None = None) -> None:
        """``answer_timeout_s`` None: an agent may work for long before it says anything."""
        self._answer_timeout_s = answer_timeout_s
        self.url = url.rstrip("/")
        self._where = urlsplit(self.url)
        if self._where.scheme not in ("http", "https") or not self._where.hostname:
            raise NotReachable(f"{url!r} is not a server address; expected a URL like http://127.0.0.1:8080")
        self._key = key

    @property
    def is_local(self) -> bool:
        """The server sees the same folders as this command."""
        return self._where.hostname in LOOPBACK

    def is_up(self) -> bool:
        """Whether a clinvk server answers there, within seconds. It is sent no key."""
        try:
            health = Remote(self.url, answer_timeout_s=CONNECT_TIMEOUT_S).ask("GET", "/health")
        except Refused as refused:  # unhealthy, but ours
            health = refused.body
        except NotReachable:
            return False
        return isinstance(health, dict) and health.get("status") in ("ok", "degraded", "unhealthy")

    def ask(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON of the answer, None where it has no body. Raises Refused, NotReachable."""
        present = {name: value for name, value in (query or {}).items() if value is not None}
        connection, answer = self._send(method, f"{path}?{urlencode(present)}" if present else path, body)
        try:
            return self._read(answer)
        finally:
            answer.close()
            connection.close()

    def lines(self, path: str, body: Any) -> Generator[dict[str, Any], None, None]:
        """The events of a stream, one JSON object a line. Close the iterator to stop what the server runs."""
        connection, answer = self._send("POST", path, body, accept="application/x-ndjson")
        try:
            for line in self._raw_lines(answer):
                if line.strip():
                    yield _decode(line)
        finally:
            answer.close()
            connection.close()

    def events(self, path: str) -> Generator[ServerEvent, None, None] | None:
        """The server-sent events of a stream, in which a broken connection looks like the end. None if no event can follow (204)."""
        connection, answer = self._send("GET", path, None, accept="text/event-stream")
        if answer.status != http.client.NO_CONTENT:
            return self._events(connection, answer)
        answer.close()
        connection.close()
        return None

    def _events(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> Generator[ServerEvent, None, None]:
        number, data = None, ""
        try:
            for line in self._raw_lines(answer):
                match line.decode(errors="replace").rstrip("\n").partition(": "):
                    case ("id", _, value) if value.isdecimal():
                        number = int(value)
                    case ("data", _, value):
                        data = value
                    case ("", "", "") if data:
                        yield ServerEvent(number, data)
                        number, data = None, ""
        except NotReachable:
            return
        finally:
            answer.close()
            connection.close()

    def _raw_lines(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """Whole lines. Raises NotReachable if the connection breaks, also within a line."""
        try:
            while line := answer.readline():
                if not line.endswith(b"\n"):
                    raise NotReachable(f"the connection to {self.url} broke")
                yield line
        except (OSError, http.client.HTTPException) as error:
            raise NotReachable(f"the connection to {self.url} broke: {error}") from None

    def _send(
        self, method: str, path: str, body: Any, accept: str = "application/json"
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        kind = http.client.HTTPSConnection if self._where.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._where.hostname or "", self._where.port, timeout=CONNECT_TIMEOUT_S)
        headers = {"Accept": accept} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        if agents := os.environ.get(depth.VARIABLE):  # an agent's shell
            headers[depth.HEADER] = agents
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.connect()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in KEEPALIVE.items():
                if hasattr(socket, name):  # macOS has other names before Python 3.13
                    connection.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            connection.sock.settimeout(self._answer_timeout_s)
            connection.request(method, self._where.path + path, data, headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                has_run = answer.headers.get("x-should-retry") == "false"
                body_json = self._read(answer)
                raise Refused(answer.status, body_json if isinstance(body_json, dict) else {}, has_run=has_run)
            return connection, answer
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NotReachable(f"{self.url} cannot be reached: {error or type(error).__name__}") from None
        except BaseException:
            connection.close()
            raise

    def _read(self, answer: http.client.HTTPResponse) -> Any:
        try:
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotReachable(f"the connection to {self.url} broke: {error}") from None
        return _decode(data) if data.strip() else None


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise NotReachable("this is not a clinvk server: its response is not JSON") from None
