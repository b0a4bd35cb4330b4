"""Where webhooks may be sent."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from services.errors import InvalidRequest
from services.runs.webhooks.address import URL_LIMIT_CHARS, Target, Unreachable, check_url, host_of, look_up, resolve


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.com", Target("example.com", 443, True, "/")),
        ("HTTPS://Example.COM.:8443/hooks/1?a=b@c", Target("example.com", 8443, True, "/hooks/1?a=b@c")),
        ("https://xn--bcher-kva.example/", Target("xn--bcher-kva.example", 443, True, "/")),
        ("https://8.8.8.8/", Target("8.8.8.8", 443, True, "/")),
        ("https://[2606:4700:0::1111]:8443/", Target("2606:4700::1111", 8443, True, "/")),
        ("https://1.2.3.4.example/", Target("1.2.3.4.example", 443, True, "/")),
        ("https://localhost.example/", Target("localhost.example", 443, True, "/")),
    ],
)
def test_a_public_https_url_is_accepted(url: str, target: Target) -> None:
    assert check_url(url, ()) == target
    assert host_of(url) == target.host


@pytest.mark.parametrize(
    "host",
    [
        # in all notations that getaddrinfo, inet_aton or a browser reads as 127.0.0.1
        "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.1", "0x7f.0.0.0x1", "0177.0.0.1", "017700000001",
        "127.0.0.1.", "127.1.", "127.0.0.01", "127.0.0.0x1", "%31%32%37.0.0.1", "１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1",
        "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "[::1%25lo]", "[::1%lo]", "[64:ff9b:1::7f00:1]",
        "localhost", "LOCALHOST", "localhost.", "app.localhost", "a.b.localhost.", "l%6fcalhost", "ｌocalhost",
        # private, link-local, shared, multicast, reserved, unspecified
        "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "0.0.0.0", "0",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
        "168.63.129.16",
        "[::]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[2001::1]", "[3fff::1]", "[100::1]",
        "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[::ffff:8.8.8.8]",
        # no host at all, or not one that everybody reads alike
        "", ".", "..", "a..b", "example.com..", ":80", "[::1", "[", "[1.2.3.4]", "[v1.x]", "1.2.3.256", "1.2.3.4.5", "08.1.1.1", "0x", "exa mple.com",
        "example.com\\@127.0.0.1", "exa\tmple.com", "127.0.0.1\n", "example.com:0", "example.com:65536", "example.com:x", "a" * 64, "-", "*", "bücher.example",
        ".".join(["a" * 63] * 4),
        # user information
        "user@example.com", "user:pass@example.com", "@example.com", "example.com@127.0.0.1",
    ],
)  # fmt: skip
def test_what_is_not_public_is_refused_at_submission_in_any_notation(host: str) -> None:
    for end in ("/", "", "/hook?a=b"):
        with pytest.raises(InvalidRequest) as caught:
            check_url(f"https://{host}{end}", ["internal"])
        assert caught.value.field == "webhook.url"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "//example.com/", "example.com", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "",
        "https:example.com", "https:/example.com", "https://", "https:///path", " https://example.com/", "https://example.com/ ",
        "https://example.com/#", "https://example.com/#part", "https://example.com/é", "https://example.com/a b", "javascript:alert(1)",
        "https://example.com/a\r\nX-Injected: 1", "https://example.com/" + "a" * URL_LIMIT_CHARS,
    ],
)  # fmt: skip
def test_what_is_no_plain_https_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url, ())


def test_the_error_says_which_field_and_what_was_expected_but_not_the_url() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_url("https://127.1/?token=abc", (), field="runs.webhooks[0].url")
    assert caught.value.message == "runs.webhooks[0].url: expected a host name, or an IPv4 address as four decimal numbers"


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("ci.internal", "http://ci.internal:8080/hook"),
        ("CI.internal.", "http://ci.INTERNAL/hook"),
        ("localhost", "http://localhost:9000/"),
        ("127.0.0.1", "http://127.0.0.1:9000/"),
        ("10.1.2.3", "https://10.1.2.3/"),
        ("::1", "http://[::1]:9000/"),
        ("[fd00::1]", "http://[fd00:0::1]:9000/"),
    ],
)
def test_an_allowed_host_may_be_private_and_plain_http(allowed: str, url: str) -> None:
    assert check_url(url, [allowed]).is_tls == url.startswith("https")
    with pytest.raises(InvalidRequest):
        check_url(url, [])


@pytest.mark.parametrize(
    "url", ["http://a.ci.internal/", "http://internal/", "http://ci.internal.example/", "http://127.1/", "http://2130706433/"]
)
def test_an_allowed_host_allows_no_other(url: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(url, ["ci.internal", "127.0.0.1"])


def names(*ips: str) -> Any:
    """A name server for which every name has these addresses."""
    return lambda host, port: [
        (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port, 0, 0) if ":" in ip else (ip, port))
        for ip in ips
    ]


def test_a_name_resolves_to_the_addresses_that_are_connected_to() -> None:
    assert resolve("example.com", 443, (), lookup=names("8.8.8.8", "2606:4700::1111")) == [
        (socket.AF_INET, ("8.8.8.8", 443)),
        (socket.AF_INET6, ("2606:4700::1111", 443, 0, 0)),
    ]


@pytest.mark.parametrize(
    "ips",
    [
        ("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::1",), ("8.8.8.8", "fe80::1%eth0"), ("::ffff:8.8.8.8",), ("64:ff9b::a00:1",), ("nonsense",), (),
    ],
)  # fmt: skip
def test_a_name_with_any_address_that_is_not_public_is_unreachable(ips: tuple[str, ...]) -> None:
    with pytest.raises(Unreachable):
        resolve("example.com", 443, ["other.example"], lookup=names(*ips))


def test_an_allowed_name_may_resolve_to_a_private_address() -> None:
    assert resolve("ci.internal", 80, ["CI.internal"], lookup=names("10.0.0.1")) == [(socket.AF_INET, ("10.0.0.1", 80))]


def test_a_translated_public_address_is_public() -> None:
    """As DNS64 returns in a network without IPv4."""
    assert resolve("example.com", 443, (), lookup=names("64:ff9b::808:808"))


def test_a_name_without_an_address_is_unreachable() -> None:
    def fail(host: str, port: int) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(Unreachable, match="no address: Name or service not known"):
        resolve("nothing.invalid", 443, (), lookup=fail)


def test_the_system_looks_up_in_a_thread(capfd: pytest.CaptureFixture[str]) -> None:
    assert {address[-1][0] for address in look_up("127.0.0.1", 80)} == {"127.0.0.1"}
    with pytest.raises(OSError, match=r"."):
        look_up("not a name", 80)
    assert capfd.readouterr().err == ""
