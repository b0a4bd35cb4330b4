"""Webhooks over TLS, with certificates by openssl."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.runs.webhooks.sender import Outcome, Sender
from tests.parts.certificates import certificate
from tests.parts.webhook_receiver import Receiver, receiving

NAME = "hooks.example"


@pytest.fixture(scope="module")
def cert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Its own authority."""
    return certificate(tmp_path_factory.mktemp("cert"), NAME)


@pytest.fixture
def receiver(cert: tuple[Path, Path]) -> Iterator[Receiver]:
    with receiving(cert=cert) as one:
        yield one


def send(receiver: Receiver, host: str, ca_file: Path | None) -> Outcome:
    sender = Sender([host], lookup=receiver.lookup(), ca_file=str(ca_file) if ca_file else None)
    return sender.send(f"https://{host}/hook", {}, b"{}")


def test_the_name_is_in_the_handshake_and_in_the_host_header_though_an_address_is_connected_to(
    receiver: Receiver, cert: tuple[Path, Path]
) -> None:
    assert send(receiver, NAME, cert[0]) == Outcome(200, "HTTP status 200")
    (request,) = receiver.requests
    assert (request.server_name, request.headers["Host"]) == (NAME, NAME)


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
def test_a_certificate_of_another_name_is_refused(receiver: Receiver, cert: tuple[Path, Path], host: str) -> None:
    outcome = send(receiver, host, cert[0])
    assert outcome.status is None
    assert "the certificate is not valid" in outcome.reason
    assert "not valid for" in outcome.reason
    assert (receiver.connections, receiver.requests) == (1, [])


def test_a_certificate_of_an_unknown_authority_is_refused(receiver: Receiver) -> None:
    assert send(receiver, NAME, None) == Outcome(None, "the certificate is not valid: self-signed certificate")
    assert receiver.requests == []


def test_a_receiver_that_does_not_speak_tls_is_a_failure(cert: tuple[Path, Path]) -> None:
    with receiving() as plain:
        assert send(plain, NAME, cert[0]).status is None


def test_a_handshake_that_does_not_end_is_cut_off_at_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel connects; nobody answers
        sender = Sender([NAME], lookup=lambda host, port: [(socket.AF_INET, 0, 0, "", silent.getsockname())], attempt_s=0.2)
        assert sender.send(f"https://{NAME}/", {}, b"{}") == Outcome(None, "not finished within 0.2 s")
