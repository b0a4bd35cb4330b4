"""One attempt to deliver a webhook: a POST to an address that was checked. Knows nothing of retries.

No proxy of the environment is used, since it would look up the name itself, and no redirect is followed. The sockets are gevent's, so
an attempt blocks its own greenlet only, and its time limit holds at every step.
"""

from __future__ import annotations

import http.client
import io
import ssl
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gevent
from gevent import socket
from gevent.ssl import PROTOCOL_TLS_CLIENT, SSLContext

from services.errors import InvalidRequest
from services.runs.webhooks.address import DEFAULT_PORTS, Lookup, Target, Unreachable, check_url, resolve

ATTEMPT_S = 15.0
"""For one attempt: lookup, connection, TLS, request and answer."""
CONNECT_S = 5.0
"""For one of several addresses: an address that does not answer leaves time for the next one."""
HEAD_LIMIT_BYTES = 64 * 1024
"""For the status and headers of an answer, with those of all 1xx answers before it, which http.client reads without a limit."""
ANSWER_LIMIT_BYTES = 64 * 1024
"""How much of the answer's body is read. It is not used; a server may fail to end its work if nobody reads."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``status`` is None if there was no HTTP answer; ``reason`` is for log lines, and contains no part of the URL."""

    status: int | None
    reason: str

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class _LimitedStream(io.RawIOBase):
    """What a socket receives, up to ``left`` bytes. Past them a read raises HTTPException.

    Every read yields to the event loop: gevent's ``recv`` does not while bytes are there, so no time limit could end a flood.
    """

    def __init__(self, stream: io.RawIOBase, left: int) -> None:
        self._stream = stream
        self.left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        gevent.sleep(0)
        count = self._stream.readinto(buffer)
        self.left -= count or 0
        if self.left < 0:
            raise http.client.HTTPException("the answer is too long")
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    """An answer whose head and body, framing included, are limited, each by its own number of bytes."""

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self._limited = _LimitedStream(sock.makefile("rb", buffering=0), HEAD_LIMIT_BYTES)
        self.fp = io.BufferedReader(self._limited)

    def begin(self) -> None:
        super().begin()
        self._limited.left += ANSWER_LIMIT_BYTES


class Sender:
    def __init__(
        self,
        allowed_hosts: Collection[str] = (),
        *,
        user_agent: str = "clinvk",
        attempt_s: float = ATTEMPT_S,
        connect_s: float = CONNECT_S,
        lookup: Lookup | None = None,
        ca_file: str | None = None,
    ) -> None:
        """``allowed_hosts`` may be replaced between attempts. ``ca_file`` replaces the system's certificate authorities, which
        ``SSL_CERT_FILE`` replaces too."""
        self.allowed_hosts = allowed_hosts
        self._user_agent = user_agent
        self._attempt_s = attempt_s
        self._connect_s = connect_s
        self._lookup = lookup
        self._ca_file = ca_file

    def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST ``body``, which is JSON. Whatever the other side does, this returns an outcome within the time limit."""
        status: list[int] = []
        limit = gevent.Timeout(self._attempt_s)
        try:
            with limit:
                self._post(check_url(url, self.allowed_hosts), headers, body, status)
        except gevent.Timeout as timeout:
            if timeout is not limit:
                raise
            reason = f"not finished within {self._attempt_s:g} s"
        except InvalidRequest as error:  # the settings have changed since it was submitted
            reason = error.message
        except Unreachable as error:
            reason = str(error)
        except ssl.SSLCertVerificationError as error:
            reason = f"the certificate is not valid: {error.verify_message}"
        except http.client.RemoteDisconnected:
            reason = "the connection was closed without an answer"
        except http.client.HTTPException:
            reason = "the answer is not HTTP"
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
        # A status that arrived is the answer, also if its body did not follow.
        return Outcome(status[0], f"HTTP status {status[0]}") if status else Outcome(None, reason)

    def _post(self, target: Target, headers: Mapping[str, str], body: bytes, status: list[int]) -> None:
        """Appends to ``status`` when it arrives."""
        ours = {"Content-Type": "application/json", "User-Agent": self._user_agent, "Connection": "close"}
        with ExitStack() as open_sockets:
            connected = open_sockets.enter_context(self._connected(target))
            if target.is_tls:
                # The handshake comes after `enter_context`: the socket is closed also when the time limit ends it.
                connected = self._tls.wrap_socket(connected, server_hostname=target.host, do_handshake_on_connect=False)
                open_sockets.enter_context(connected).do_handshake()
            connection = http.client.HTTPConnection(target.host, target.port)
            connection.default_port = DEFAULT_PORTS["https" if target.is_tls else "http"]  # left out of the Host header
            connection.response_class = _LimitedResponse
            connection.auto_open = 0  # it would look up the name, and connect without a check
            connection.sock = connected
            connection.request("POST", target.path, body, ours | dict(headers))
            with connection.getresponse() as answer:
                status.append(answer.status)
                answer.read(ANSWER_LIMIT_BYTES)

    def _connected(self, target: Target) -> Any:
        """A socket that is connected to the first address that answers. Raises the error of the last one."""
        addresses = resolve(target.host, target.port, self.allowed_hosts, lookup=self._lookup)
        for number, (family, address) in enumerate(addresses, 1):
            connected = socket.socket(family, socket.SOCK_STREAM)
            try:
                connected.settimeout(self._connect_s)
                connected.connect(address)
                connected.settimeout(None)
                return connected
            except BaseException as error:  # the time limit is none of OSError
                connected.close()
                if not isinstance(error, OSError) or number == len(addresses):
                    raise
        raise AssertionError("resolve() returns at least one address")

    @cached_property
    def _tls(self) -> SSLContext:
        context = SSLContext(PROTOCOL_TLS_CLIENT)  # checks the certificate and its name
        if self._ca_file:
            context.load_verify_locations(self._ca_file)
        else:
            context.load_default_certs()
        return context
