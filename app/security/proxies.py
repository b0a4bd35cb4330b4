"""The client's real address, taken only from proxies that the operator trusts."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

log = logging.getLogger("clinvk.proxies")

Address = IPv4Address | IPv6Address

PREFIX = re.compile(r"(/[\w.~-]+)+", re.ASCII)
"""A path prefix without `//`, which would turn every link into one to another host."""

HOPS_LIMIT = 32
"""How many entries of X-Forwarded-For are evaluated; longer chains are assumed to be forged."""


class TrustedProxies:
    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(text, strict=False) for text in networks)
        self._has_warned = False

    def __bool__(self) -> bool:
        return bool(self._networks)

    def apply(self, environ: dict[str, Any]) -> str:
        """Set ``REMOTE_ADDR`` to the client's address, ``wsgi.url_scheme`` to its scheme, and ``SCRIPT_NAME`` to the path prefix that
        the proxy removed. Returns the address of the trusted proxy, "" if the peer is not one."""
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
        """The rightmost address that is not a trusted proxy's. Entries left of it are unverified client input."""
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


@lru_cache
def to_address(text: str) -> Address | None:
    """``1.2.3.4``, ``1.2.3.4:5678``, ``[::1]:5678``, ``::1``, quoted or not; None for anything else.

    An IPv4-mapped IPv6 address (``::ffff:1.2.3.4``) becomes IPv4, so that networks match.
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
    """The rate limit key of an address. IPv6 is counted by /64, since a client could use a new address of it for every request."""
    found = to_address(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, 64), strict=False))
    return str(found or address)
