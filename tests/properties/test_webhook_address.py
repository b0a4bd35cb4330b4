"""However a caller writes a private address, no webhook is sent there. Judged by Python's and the system's own readings of addresses."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidRequest
from services.runs.webhooks.address import Unreachable, check_url, resolve
from services.runs.webhooks.public_addresses import is_public
from tests.properties.strategies import unruly_texts

PRIVATE_NETWORKS = (
    (0, 8),
    (0x0A000000, 8),
    (0x64400000, 10),
    (0x7F000000, 8),
    (0xA9FE0000, 16),
    (0xAC100000, 12),
    (0xC0A80000, 16),
    (0xE0000000, 3),
)


def is_global(address: IPv4Address | IPv6Address) -> bool:
    """By Python's own tables."""
    return address.is_global and not (address.is_multicast or address.is_loopback or address.is_link_local or address.is_unspecified)


private_ipv4 = st.sampled_from(PRIVATE_NETWORKS).flatmap(
    lambda network: st.integers(0, (1 << (32 - network[1])) - 1).map(lambda rest: IPv4Address(network[0] | rest))
)
bases = st.sampled_from(
    [str, hex, lambda number: f"0{number:o}", lambda number: f"{hex(number).upper()}", lambda number: f"0x{number:08x}"]
)


@st.composite
def notations(draw: st.DrawFn) -> str:
    """A private address as a URL's host."""
    address = draw(private_ipv4)
    number, octets = int(address), address.packed
    high, low = number >> 16, number & 0xFFFF
    match draw(st.integers(0, 9)):
        case 0:
            return str(address)
        case 1:  # inet_aton: 1 to 4 parts, the last one holds the rest
            count = draw(st.integers(1, 4))
            parts = [*octets[: count - 1], int.from_bytes(octets[count - 1 :])]
            return ".".join(draw(bases)(part) for part in parts) + draw(st.sampled_from(["", "."]))
        case 2:
            return f"[::ffff:{address}]"
        case 3:
            return f"[::ffff:{high:x}:{low:x}]"
        case 4:
            return f"[64:ff9b::{address}]"
        case 5:
            return f"[2002:{high:x}:{low:x}::{draw(st.integers(0, 0xFFFF)):x}]"
        case 6:
            return f"[::{address}]"
        case 7:  # full-width digits, which IDNA reads as digits
            return str(address).translate({48 + digit: 0xFF10 + digit for digit in range(10)})
        case 8:
            return "".join(f"%{ord(character):02x}" for character in str(address))
        case _:
            return f"[{IPv6Address(draw(st.sampled_from([0xFE80, 0xFC00, 0xFD00, 0xFF02, 0xFEC0])) << 112 | draw(st.integers(0, (1 << 64) - 1)))}]"


@given(notations(), st.sampled_from(["", ":443", ":8080"]), st.sampled_from(["/", "", "?a", "/hook"]))
def test_no_private_address_passes_in_any_notation(host: str, port: str, path: str) -> None:
    with pytest.raises(InvalidRequest):
        check_url(f"https://{host}{port}{path}", ["ci.internal"])


@given(
    st.builds(
        "{}{}{}{}".format, st.sampled_from(["https://", "http://", "", "HTTPS://"]), notations() | unruly_texts, unruly_texts, unruly_texts
    )
)
def test_any_text_is_refused_or_a_host_that_no_reader_takes_for_a_private_address(text: str) -> None:
    try:
        target = check_url(text, ())
    except InvalidRequest:
        return
    assert target.is_tls
    assert target.host.isascii()
    assert not target.host.endswith("localhost")
    assert not set(target.path) & set(" \r\n\t#")
    with suppress(OSError):
        assert is_global(IPv4Address(socket.inet_aton(target.host)))
    with suppress(ValueError):
        assert is_global(ip_address(target.host))


@given(st.integers(0, (1 << 32) - 1).map(IPv4Address) | private_ipv4 | st.integers(0, (1 << 128) - 1).map(IPv6Address))
def test_what_counts_as_public_is_public_for_python_too(address: IPv4Address | IPv6Address) -> None:
    assert not is_public(address) or is_global(address)


@given(st.lists(st.integers(0x08000000, 0x09FFFFFF).map(IPv4Address), max_size=3), private_ipv4, st.randoms())
def test_one_private_address_among_others_makes_a_name_unreachable(public: list[IPv4Address], private: IPv4Address, random: Any) -> None:
    found = [*public, private]
    random.shuffle(found)
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (str(address), 443)) for address in found]
    with pytest.raises(Unreachable):
        resolve("example.com", 443, ["other.example"], lookup=lambda host, port: answer)
    assert len(resolve("example.com", 443, ["example.com"], lookup=lambda host, port: answer)) == len(found)
