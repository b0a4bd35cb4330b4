"""Where a webhook may be sent: the checks of its URL, and of the addresses that its host has.

A caller chooses the URL, so without these the server could be made to send requests to its own network. The URL is checked when it
is submitted, without DNS. The addresses are checked when the request is sent, and exactly these are connected to: a name that is
looked up twice may have another address the second time (DNS rebinding).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

from gevent.monkey import get_original
from gevent.threadpool import ThreadPool

from services.errors import InvalidRequest
from services.runs.webhooks.public_addresses import is_public

URL_LIMIT_CHARS = 2_048
HOST_LIMIT_CHARS = 253
LOOKUPS_LIMIT = 8
"""DNS lookups at once. They have threads of their own: a name server that does not answer must not hold up other lookups."""

# Characters outside of this have more than one meaning: a browser reads "１２７.1" as an address, and urllib removes line feeds.
URL = re.compile(r"[!-\[\]-~]+")
NAME = re.compile(r"(?=.*[a-z0-9])[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
# getaddrinfo reads these as IPv4 addresses: 2130706433, 0x7f.1, 017700000001, 127.1. No top-level domain is numeric.
NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")

DEFAULT_PORTS = {"https": 443, "http": 80}

Lookup = Callable[[str, int], Sequence[tuple[Any, ...]]]
"""As `socket.getaddrinfo` for a stream: ``(family, type, protocol, canonical name, socket address)``. Raises OSError."""


class Unreachable(Exception):
    """The request cannot be sent. The message says why, without the URL."""


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a checked URL. ``host`` is lower-case, without brackets or a trailing dot."""

    host: str
    port: int
    is_tls: bool
    path: str
    """With the query."""


def check_url(url: str, allowed_hosts: Collection[str], *, field: str = "webhook.url") -> Target:
    """Raises InvalidRequest for a URL that is not sent to. ``allowed_hosts`` may be private, and be reached by plain http."""
    try:
        return _to_target(url, frozenset(map(to_host, allowed_hosts)))
    except ValueError as error:
        raise InvalidRequest(f"{field}: {error}", field=field, issue=str(error)) from None


def to_host(text: str) -> str:
    """A host in the form in which hosts are compared."""
    host = text.lower().removeprefix("[").removesuffix("]").removesuffix(".")
    try:
        return str(ip_address(host))
    except ValueError:
        return host


def host_of(url: str) -> str:
    """The host of a URL that `check_url` accepted."""
    return to_host(urlsplit(url).hostname or "")


def resolve(host: str, port: int, allowed_hosts: Collection[str], *, lookup: Lookup | None = None) -> list[tuple[int, tuple[Any, ...]]]:
    """The addresses of ``host``: family and socket address, to be connected to as they are.

    Raises Unreachable if there are none or, unless the host is allowed, any of them is not public.
    """
    try:
        found = (lookup or look_up)(host, port)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the host name has no address: {getattr(error, 'strerror', None) or 'it is not valid'}") from None
    addresses = [(int(family), tuple(address)) for family, *_, address in found]
    if not addresses:
        raise Unreachable("the host name has no address")
    if host not in map(to_host, allowed_hosts) and not all(_is_public(str(address[0])) for _, address in addresses):
        raise Unreachable("the host name has an address that is not public; runs.webhook_allowed_hosts does not name it")
    return addresses


def look_up(host: str, port: int) -> Sequence[tuple[Any, ...]]:
    """`socket.getaddrinfo` in a thread."""
    found: Sequence[tuple[Any, ...]] | Exception = _threads().apply(_found_or_error, (host, port))
    if isinstance(found, Exception):
        raise found
    return found


def _found_or_error(host: str, port: int) -> Sequence[tuple[Any, ...]] | Exception:
    """Returns an error instead of raising it: gevent prints what is raised in a thread."""
    try:
        found: Sequence[tuple[Any, ...]] = get_original("socket", "getaddrinfo")(host, port, 0, socket.SOCK_STREAM)
        return found
    except Exception as error:
        return error


@cache
def _threads() -> ThreadPool:
    return ThreadPool(LOOKUPS_LIMIT)


def _to_target(url: str, allowed: Collection[str]) -> Target:
    """Raises ValueError with what was expected."""
    if len(url) > URL_LIMIT_CHARS:
        raise ValueError(f"has {len(url)} characters; the maximum is {URL_LIMIT_CHARS}")
    if not URL.fullmatch(url):
        raise ValueError(
            "expected ASCII characters without spaces and backslashes; write other letters of a host as xn--…, of a path as %…"
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("expected https://<host>[:<port>]/<path>") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("expected a URL that begins with https://")
    if "@" in parts.netloc:
        raise ValueError("a user name or password in the URL is not supported")
    if "#" in url:
        raise ValueError("a fragment (#…) is not supported")
    if port == 0:
        raise ValueError("the port must be 1 to 65535")
    host = _checked_host(parts.netloc, allowed)
    if parts.scheme == "http" and host not in allowed:
        raise ValueError("expected https; http only for a host in runs.webhook_allowed_hosts")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(host, port or DEFAULT_PORTS[parts.scheme], parts.scheme == "https", path)


def _checked_host(netloc: str, allowed: Collection[str]) -> str:
    """The host in ``netloc``. Raises ValueError unless it is a name, a public address or allowed."""
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?", netloc)  # without a zone: it names a link of this machine
    written = bracketed[1] if bracketed else netloc.partition(":")[0].lower().removesuffix(".")
    if bracketed:
        address: IPv4Address | IPv6Address | None = _parsed(IPv6Address, written, "an IPv6 address in brackets")
    elif NUMERIC.fullmatch(written):
        address = _parsed(IPv4Address, written, "an IPv4 address as four decimal numbers")
    elif len(written) > HOST_LIMIT_CHARS or not NAME.fullmatch(written):
        raise ValueError("expected a host name of letters, digits, hyphens and full stops")
    else:
        address = None
    host = str(address) if address else written
    is_local = not is_public(address) if address else host == "localhost" or host.endswith(".localhost")
    if is_local and host not in allowed:
        raise ValueError("the host is not public; runs.webhook_allowed_hosts does not name it")
    return host


def _parsed(form: type[IPv4Address] | type[IPv6Address], text: str, expected: str) -> IPv4Address | IPv6Address:
    try:
        return form(text)
    except ValueError:
        raise ValueError(f"expected a host name, or {expected}") from None


def _is_public(text: str) -> bool:
    try:
        return is_public(ip_address(text))
    except ValueError:
        return False
