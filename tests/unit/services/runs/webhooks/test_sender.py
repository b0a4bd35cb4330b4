"""One attempt to deliver a webhook, to a receiver on loopback."""

from __future__ import annotations

import os
from functools import partial
from time import monotonic
from typing import Any

import gevent
import pytest

from services.runs.webhooks.sender import Outcome, Sender
from tests.parts.webhook_receiver import Receiver, never, receiving, soon, status

HOST = "hooks.internal"


def send(receiver: Receiver, path: str = "/", body: bytes = b"{}", **options: Any) -> Outcome:
    """To `HOST`, which is allowed and has the receiver's address."""
    sender = Sender([HOST], **{"lookup": receiver.lookup(), "attempt_s": 10, **options})
    return sender.send(f"http://{HOST}:{receiver.port}{path}", {"webhook-id": "msg_1"}, body)


def test_a_post_of_json_to_the_host_of_the_url() -> None:
    with receiving(status(204)) as receiver:
        assert send(receiver, "/hook?a=b", b'{"a":1}', user_agent="clinvk/1") == Outcome(204, "HTTP status 204")
        (request,) = receiver.requests
    assert request.line == "POST /hook?a=b HTTP/1.1"
    assert request.body == b'{"a":1}'
    assert dict(request.headers) == {
        "Host": f"{HOST}:{receiver.port}",
        "Accept-Encoding": "identity",
        "Content-Length": "7",
        "Content-Type": "application/json",
        "User-Agent": "clinvk/1",
        "Connection": "close",
        "webhook-id": "msg_1",
    }


@pytest.mark.parametrize(
    ("code", "is_accepted"), [(200, True), (202, True), (299, True), (304, False), (400, False), (410, False), (429, False), (500, False)]
)
def test_only_2xx_is_accepted(code: int, is_accepted: bool) -> None:
    with receiving(status(code)) as receiver:
        outcome = send(receiver)
    assert (outcome.status, outcome.is_accepted) == (code, is_accepted)


def test_a_redirect_is_not_followed() -> None:
    with receiving() as other, receiving(status(307, f"Location: http://{HOST}:{other.port}/")) as receiver:
        assert send(receiver) == Outcome(307, "HTTP status 307")
        assert (receiver.connections, other.connections) == (1, 0)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setitem(os.environ, name, f"http://127.0.0.1:{proxy.port}")
        assert send(receiver).is_accepted
        assert (receiver.connections, proxy.connections) == (1, 0)


def drip(piece: bytes, connection: Any) -> None:
    while True:
        connection.sendall(piece)
        gevent.sleep(0.01)


@pytest.mark.parametrize(
    "answer",
    [never, partial(drip, b"H"), lambda connection: (connection.sendall(b"HTTP/1.1 200 OK\r\n"), drip(b"A: b\r\n", connection))],
    ids=["says nothing", "drips a status line", "drips headers"],
)
def test_a_slow_receiver_is_cut_off_at_the_limit(answer: Any) -> None:
    with receiving(answer) as receiver:
        begun = monotonic()
        outcome = send(receiver, attempt_s=0.2)
        assert 0.15 < monotonic() - begun < 5
    assert outcome.status is None
    assert not outcome.is_accepted


def test_a_body_that_never_ends_does_not_change_its_status() -> None:
    def endless(connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        drip(b".", connection)

    with receiving(endless) as receiver:
        assert send(receiver, attempt_s=0.2) == Outcome(200, "HTTP status 200")


def test_no_more_than_64_kib_of_an_answer_are_read() -> None:
    sent = [0]

    def flood(connection: Any) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(1 << 16))
            sent[0] += 1 << 16

    with receiving(flood) as receiver:
        assert send(receiver).is_accepted
        assert sent[0] < 32 << 20  # what the kernel buffers, not more


@pytest.mark.parametrize(
    ("beginning", "repeated", "expected"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", Outcome(None, "the answer is not HTTP")),
        (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", Outcome(None, "the answer is not HTTP")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n", Outcome(200, "HTTP status 200")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1;" + b"e" * 9_000 + b"\r\n.\r\n", Outcome(200, "HTTP status 200")),
    ],
    ids=["interim answers", "headers", "trailers", "chunk extensions"],
)
def test_an_answer_without_an_end_is_left_at_its_limit(beginning: bytes, repeated: bytes, expected: Outcome) -> None:
    def flood(connection: Any) -> None:
        connection.sendall(beginning)
        while True:
            connection.sendall(repeated * 100)

    with receiving(flood) as receiver:
        begun = monotonic()
        assert send(receiver, attempt_s=3) == expected
        assert monotonic() - begun < 2
        assert soon(lambda: not receiver.open)


def test_an_answer_after_interim_ones_is_read() -> None:
    with receiving(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + status(202)) as receiver:
        assert send(receiver) == Outcome(202, "HTTP status 202")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2 secret\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000, "the answer is not HTTP"),
    ],
)
def test_what_is_not_http_is_a_failure(answer: bytes, reason: str) -> None:
    with receiving(answer) as receiver:
        assert send(receiver) == Outcome(None, reason)


def test_a_receiver_that_does_not_listen_is_a_failure() -> None:
    with receiving() as receiver:
        pass
    assert send(receiver) == Outcome(None, "Connection refused")


def test_the_next_address_is_tried_when_one_refuses() -> None:
    with receiving() as receiver:
        refused_first = lambda host, port: receiver.lookup("127.0.0.9")(host, port)[::-1]  # noqa: E731
        assert send(receiver, lookup=refused_first).is_accepted


def test_a_name_that_resolves_to_a_private_address_is_never_connected_to() -> None:
    with receiving() as receiver:
        outcome = Sender(lookup=receiver.lookup()).send(f"https://hooks.example:{receiver.port}/", {}, b"{}")
        assert receiver.connections == 0
    assert outcome == Outcome(None, "the host name has an address that is not public; runs.webhook_allowed_hosts does not name it")


def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to() -> None:
    """DNS rebinding: the second lookup would have another answer."""
    with receiving() as receiver, receiving() as internal:
        answers = [receiver.lookup(), internal.lookup()]
        assert send(receiver, lookup=lambda host, port: answers.pop(0)(host, port)).is_accepted
        assert (receiver.connections, internal.connections, len(answers)) == (1, 0, 1)


def test_a_host_that_is_no_longer_allowed_is_a_failure() -> None:
    with receiving() as receiver:
        outcome = Sender(lookup=receiver.lookup()).send(f"http://{HOST}:{receiver.port}/", {}, b"{}")
        assert receiver.connections == 0
    assert outcome == Outcome(None, "webhook.url: expected https; http only for a host in runs.webhook_allowed_hosts")


def test_no_outcome_contains_the_url() -> None:
    with receiving() as receiver:
        pass
    for limits in ({}, {"lookup": lambda host, port: []}):
        assert "token" not in send(receiver, "/path?token=abc", **limits).reason


def test_a_time_limit_of_the_caller_passes_through() -> None:
    with receiving(never) as receiver, pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
        send(receiver, attempt_s=20)


def test_an_attempt_that_is_cut_off_closes_its_connection() -> None:
    ended: list[bytes] = []
    with receiving(lambda connection: ended.append(connection.recv(1))) as receiver:
        greenlet = gevent.spawn(send, receiver)
        assert soon(lambda: receiver.requests)
        greenlet.kill()
        assert soon(lambda: ended == [b""])
