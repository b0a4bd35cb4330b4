"""The client's address: believed from trusted proxies alone."""

from __future__ import annotations

from typing import Any

import pytest

from app.config.schema import ServerSettings, Settings
from app.security.proxies import TrustedProxies, to_address, to_limit_key
from app.server.shared_state import notes
from tests.unit.app.parts import ask, shared_app

PROXIES = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),  # not a proxy of ours: its claims are its own
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),  # the client wrote the first itself
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, garbage", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1, ,10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "1.1.1.1:4711", "1.1.1.1"),
        ("10.0.0.1", "[2a00::1]:4711", "2a00::1"),
        ("10.0.0.1", '"[2a00::1]"', "2a00::1"),
        ("10.0.0.1", "2a00::1", "2a00::1"),
        ("::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("2001:db8::9", "2a00::1, 2001:db8::8", "2a00::1"),
        ("192.0.2.1", "1.1.1.1", "1.1.1.1"),
        ("192.0.2.2", "1.1.1.1", "192.0.2.2"),
        ("10.0.0.1", ",".join(["1.1.1.1"] * 50_000), "1.1.1.1"),
        ("", "1.1.1.1", ""),
        ("not an address", "1.1.1.1", "not an address"),
    ],
)
def test_the_rightmost_address_that_is_not_ours(peer: str, forwarded_for: str, client: str) -> None:
    environ = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded_for, "wsgi.url_scheme": "http"}
    TrustedProxies(PROXIES).apply(environ)
    assert environ["REMOTE_ADDR"] == client


def test_nobody_is_trusted_by_default() -> None:
    answer = ask(shared_app(), "/api/v1/echo", {"X-Forwarded-For": "1.1.1.1", "X-Forwarded-Proto": "https"})
    assert answer.get_json() == {"bytes": 0, "client": "127.0.0.1", "scheme": "http", "peer": None}


@pytest.mark.parametrize(
    ("proto", "scheme"), [("https", "https"), ("HTTPS", "https"), ("http, https", "https"), ("gopher", "http"), ("", "http")]
)
def test_a_trusted_proxy_tells_the_scheme(proto: str, scheme: str) -> None:
    app = shared_app(trusted_proxies=["127.0.0.1"])
    answer = ask(app, "/api/v1/echo", {"X-Forwarded-For": "1.1.1.1", "X-Forwarded-Proto": proto})
    assert answer.get_json() == {"bytes": 0, "client": "1.1.1.1", "scheme": scheme, "peer": "127.0.0.1"}


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "1.2.3.4.5", "::g", "[::1", "_hidden", "1.2.3.4;", "۱.۱.۱.۱", "999.1.1.1", "fe80::1%eth0%x"]
)
def test_garbage_is_no_address(text: str) -> None:
    found = to_address(text)
    assert found is None or text in ("[::1", "fe80::1%eth0%x")


@pytest.mark.parametrize(
    ("address", "key"),
    [("1.2.3.4", "1.2.3.4"), ("2a00:1:2:3:4::5", "2a00:1:2:3::/64"), ("2a00:1:2:3::9", "2a00:1:2:3::/64"), ("", ""), ("unix", "unix")],
)
def test_an_ipv6_client_is_counted_as_its_network(address: str, key: str) -> None:
    assert to_limit_key(address) == key


def test_a_proxy_that_is_not_trusted_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    proxies = TrustedProxies(["10.0.0.0/8"])
    for peer in ("127.0.0.1", "127.0.0.1", "10.0.0.1"):
        proxies.apply({"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": "192.0.2.1"})
    (record,) = caplog.records
    assert "127.0.0.1 sent X-Forwarded-For but is not in server.trusted_proxies" in record.getMessage()


def test_start_notes_a_proxy_that_is_not_trusted() -> None:
    def told(**server: Any) -> list[str]:
        return notes(Settings(server=ServerSettings(**server)))

    (note,) = told(allowed_hosts=["gateway.example.com"])
    assert "server.trusted_proxies is empty" in note
    assert told(allowed_hosts=["gateway.example.com"], trusted_proxies=["127.0.0.1"]) == []
    assert told() == []
