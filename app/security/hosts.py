"""Which names and addresses may reach the server: the Host check, and the peer check of a server without keys.

A coding agent must not be drivable by any web page. A page can reach a local server under a name of its own that it points at
127.0.0.1 (DNS rebinding). The Host header gives it away.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

from app.config.schema import ServerSettings
from services.errors import PermissionDenied

HOST = re.compile(r"(?P<name>\[[0-9a-f:.%]+\]|[^\s:/@\[\]#?\\]+)(?::\d{1,5})?", re.IGNORECASE)


class HostRules:
    """The host names accepted in the Host header."""

    def __init__(self, server: ServerSettings) -> None:
        self._is_local = is_loopback(server.host)
        self._names = {to_host_name(name) or name.lower() for name in server.allowed_hosts}
        self._is_open = "*" in self._names or not (self._is_local or self._names)
        self._names.add(server.host.lower())

    def check(self, host: str | None) -> None:
        """Raises PermissionDenied. A missing Host is accepted: browsers always send one, HTTP/1.0 probes do not."""
        if host and not self._is_open and not self.knows(host):
            raise PermissionDenied(
                f"host {host[:200]!r} is not allowed; to allow it, add it to server.allowed_hosts",
                field="Host",
                issue="host not allowed",
            )

    def knows(self, host: str) -> bool:
        """Whether ``host`` certainly names this server, and is not a foreign name that resolves to it."""
        name = to_host_name(host)
        if name is None:
            return False
        # Rebinding needs a name. Beyond loopback, load balancers and health probes send an address.
        if is_loopback(name) or name in self._names or (not self._is_local and _is_address(name)):
            return True
        return any(name.endswith(pattern.lstrip("*")) for pattern in self._names if pattern.startswith((".", "*.")))


def check_peer(address: str) -> None:
    """Reject remote clients if the server requires no key and is configured for loopback, but was bound to another address
    (``flask run --host 0.0.0.0``). Raises PermissionDenied."""
    if address and not is_loopback(address):
        raise PermissionDenied(
            "this server has no API key, so it accepts only clients on its own machine; set CLINVK_API_KEYS to accept others",
            issue="no key",
        )


@lru_cache  # the same few names and addresses, request after request
def is_loopback(name: str) -> bool:
    name = name.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@lru_cache
def to_host_name(host: str) -> str | None:
    """``Example.com:8080`` → ``example.com``, ``[::1]:80`` → ``::1``; None for an invalid host."""
    match = HOST.fullmatch(host.strip())
    return match["name"].strip("[]").rstrip(".").lower() if match else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
