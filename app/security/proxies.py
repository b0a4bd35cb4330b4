"""The client's real address, believed only from proxies that the operator trusts."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

log = logging.getLogger("clinvk.proxies")

Address = IPv4Address | IPv6Address

PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)
"""Of a path: no `//`, which would make another host of every link."""

HOPS_LIMIT = 32
"""Entries of X-Forwarded-For that are looked at; longer chains are somebody's invention."""


class TrustedProxies:
    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(text, strict=False) for text in networks)
        self._has_warned = False

    def __bool__(self) -> bool:
        return bool(self._networks)

    def apply(self, environ: dict[str, Any]) -> str:
        """Put the client's address into ``REMOTE_ADDR``, its scheme into ``wsgi.url_scheme`` and the path prefix that the proxy has
        removed into ``SCRIPT_NAME``. Returns the address of the trusted proxy, "" for a peer that is none."""
        peer: str = environ.get("REMOTE_ADDR", "")
        if not self._trusts(to_address(peer)):
            if "HTTP_X_FORWARDED_FOR" in environ and not self._has_warned:
                self._has_warned = True
                log.warning(
                    "%s sent X-Forwarded-For but is not in server.trusted_proxies: if it is your proxy, all its clients count as one address",
                    peer,
                )
            return ""
        environ["REMOTE_ADDR"] = self.client(peer, environ.get("HTTP_X_FORWARDED_FOR", ""))
        scheme = environ.get("HTTP_X_FORWARDED_PROTO", "").rpartition(",")[2].strip().lower()
        if scheme in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        prefix = environ.get("HTTP_X_FORWARDED_PREFIX", "").rpartition(",")[2].strip().rstrip("/")
        if PREFIX.fullmatch(prefix):
            environ["SCRIPT_NAME"] = prefix
        return peer

    def client(self, peer: str, forwarded_for: str) -> str:
        """The rightmost address that no trusted proxy owns. What stands left of it is the client's own claim."""
        client = peer
        for entry in reversed(forwarded_for.rsplit(",", HOPS_LIMIT)[-HOPS_LIMIT:]):
            address = to_address(entry)
            if address is None:
                break
            client = str(address)
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)


def to_address(text: str) -> Address | None:
    """``1.2.3.4``, ``1.2.3.4:5678``, ``[::1]:5678``, ``::1``, quoted or not; None for anything else.

    An IPv4 address in IPv6 clothing (``::ffff:1.2.3.4``) comes out as what it is, so that networks match.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def to_limit_key(address: str) -> str:
    """What an address is counted under: an IPv6 client owns its whole /64 and could take a new address for every request."""
    found = to_address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return str(found or address)
