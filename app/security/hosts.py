"""Who may be meant by a request, and which web pages may send one: the Host check, and CORS.

A coding agent must not be drivable by any web page. A page can send requests to a local server in two ways: under a name
of its own that it points at 127.0.0.1 (DNS rebinding; the Host header gives it away), and across origins (the Origin
header gives it away; CORS alone only hides the answer, after the agent has run).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import flask
from flask_cors import CORS

from app.config.schema import ServerSettings
from blueprints.response_headers import EXPOSED
from services.errors import PermissionDenied

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": 80, "https": 443}
HOST = re.compile(r"(?P<name>\[[0-9a-f:.%]+\]|[^\s:/@\[\]#?\\]+)(?::\d{1,5})?", re.IGNORECASE)


class HostRules:
    """Which names the Host header may carry."""

    def __init__(self, server: ServerSettings) -> None:
        self._is_local = is_loopback(server.host)
        self._names = {to_host_name(name) or name.lower() for name in server.allowed_hosts}
        self._is_open = "*" in self._names or not (self._is_local or self._names)
        self._names.add(server.host.lower())

    def check(self, host: str | None) -> None:
        """Raises PermissionDenied. No Host at all is fine: browsers always send one, HTTP/1.0 probes do not."""
        if host and not self._is_open and not self.knows(host):
            raise PermissionDenied(
                f"this server does not answer to the name {host[:200]!r}; if it is meant to, add the name to server.allowed_hosts",
                field="Host",
                issue="host not allowed",
            )

    def knows(self, host: str) -> bool:
        """Whether ``host`` is surely this server, and not a name that a stranger has pointed at it."""
        name = to_host_name(host)
        if name is None:
            return False
        # Rebinding needs a name. Beyond loopback an address is what load balancers and health probes ask by.
        if is_loopback(name) or name in self._names or (not self._is_local and _is_address(name)):
            return True
        return any(name.endswith(pattern.lstrip("*")) for pattern in self._names if pattern.startswith((".", "*.")))


class OriginRules:
    """Which web pages may call: the configured origins, each with any port where it names none."""

    def __init__(self, server: ServerSettings) -> None:
        self.allows_all = "*" in server.cors_allowed_origins
        self.patterns = [_to_pattern(origin) for origin in server.cors_allowed_origins if origin != "*"]

    def allows(self, origin: str) -> bool:
        return self.allows_all or any(pattern.match(origin) for pattern in self.patterns)

    def check(self, headers: Mapping[str, Any], own_host: str | None) -> None:
        """Refuse what a page sends from elsewhere. Raises PermissionDenied. ``own_host`` is where the server's own pages are.

        Browsers send Origin with everything but plain navigation; Node's fetch sends ``Sec-Fetch-Mode`` and no Origin.
        """
        origin = headers.get("HTTP_ORIGIN")
        if origin is None:
            if headers.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site"):
                raise _not_allowed("of another site")
        elif not self.allows(origin) and not _is_same_origin(origin, own_host):
            raise _not_allowed(origin[:200])


def _not_allowed(origin: str) -> PermissionDenied:
    return PermissionDenied(
        f"web pages {origin if origin.startswith('of ') else f'from {origin!r}'} may not use this server;"
        " if they are meant to, add their origin to server.cors_allowed_origins",
        field="Origin",
        issue="origin not allowed",
    )


def allow_origins(app: flask.Flask, rules: OriginRules, server: ServerSettings) -> None:
    """The CORS headers of every answer; preflights are answered in `app.security.checks`, before a key is asked for."""
    CORS(
        app,
        origins="*" if rules.allows_all else rules.patterns,
        supports_credentials=server.cors_allow_credentials and not rules.allows_all,
        send_wildcard=rules.allows_all,
        max_age=server.cors_max_age,
        methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
        expose_headers=list(EXPOSED),
        allow_private_network=True,
        always_send=False,
        automatic_options=False,
    )


def is_preflight(environ: Mapping[str, Any]) -> bool:
    return environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ and "HTTP_ORIGIN" in environ


def check_peer(address: str) -> None:
    """A server that believes to be on loopback, and asks for no key, was bound elsewhere by whoever started it
    (``flask run --host 0.0.0.0``). Raises PermissionDenied for who is not on this machine."""
    if address and not is_loopback(address):
        raise PermissionDenied(
            "this server asks for no API key, so it answers to programs on its own machine alone; set CLINVK_API_KEYS to open it",
            issue="no key",
        )


def is_loopback(name: str) -> bool:
    name = name.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def to_host_name(host: str) -> str | None:
    """``Example.com:8080`` → ``example.com``, ``[::1]:80`` → ``::1``; None for what is no host."""
    match = HOST.fullmatch(host.strip())
    return match["name"].strip("[]").rstrip(".").lower() if match else None


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_same_origin(origin: str, host: str | None) -> bool:
    """The server's own pages (`/docs`). The scheme is not compared: behind TLS termination only the proxy knows it."""
    return bool(host) and origin.partition("://")[2].lower() == str(host).lower()


def _to_pattern(origin: str) -> re.Pattern[str]:
    parts = urlsplit(origin)
    port = ""
    if parts.scheme in DEFAULT_PORTS:
        if parts.port is None:
            port = r"(:\d{1,5})?"
        elif parts.port == DEFAULT_PORTS[parts.scheme]:
            origin, port = origin.rpartition(":")[0], f"(:{parts.port})?"
    return re.compile(rf"{re.escape(origin)}{port}\Z", re.IGNORECASE)
