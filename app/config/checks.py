"""Checks that one setting alone does not allow: unsafe or contradictory combinations, and strings with a format of their own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from app.config.problems import Problem, SettingsError
from app.config.schema import PriceSettings, RunSettings, ServerSettings, Settings
from app.observability.trace_context import wrong_variables
from services.access.key import Key

ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/\s?#]+")
OTEL_PACKAGES = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
STORAGES = ("memory", "redis", "rediss", "redis+unix")


def check_together(settings: Settings) -> list[Problem]:
    found = (*_checks(settings.server), *_database(settings.session.database_url), *_webhooks(settings.runs), *_prices(settings.prices))
    return [Problem(settings.source_of(key), key, message) for key, message in found]


def check_rates(settings: Settings, stored: Iterable[Key]) -> None:
    """Raises SettingsError for rate limits that would not hold, also those of the store's keys."""
    if problems := [Problem(settings.source_of(key), key, message) for key, message in rate_limit_problems(settings.server, stored)]:
        raise SettingsError(problems)


def _checks(server: ServerSettings) -> Iterator[tuple[str, str]]:
    yield from _origins(server)
    yield from rate_limit_problems(server)
    yield from _tracing(server)
    for index, network in enumerate(server.trusted_proxies):
        if not _is_network(network):
            yield f"server.trusted_proxies[{index}]", f"expected an address or a network (10.0.0.0/8), got {network!r}"
    for index, name in enumerate(server.allowed_hosts):
        if "/" in name or not name:
            yield f"server.allowed_hosts[{index}]", f"expected a host name, with a port or without, got {name!r}"
    if not server.host.strip() or "/" in server.host:
        yield "server.host", f"expected an address or a host name, got {server.host!r}"
    if server.log_file and not os.access(server.log_file if os.path.exists(server.log_file) else os.path.dirname(server.log_file), os.W_OK):
        yield "server.log_file", f"{server.log_file} cannot be written to: its folder must exist, and be this user's to write to"


def _database(url: str) -> Iterator[tuple[str, str]]:
    if url:
        from services.store.db import to_url  # SQLAlchemy takes a while to import, and most commands need none

        try:
            to_url(url, "")
        except ValueError as error:
            yield "session.database_url", str(error)


def _prices(prices: Mapping[str, PriceSettings]) -> Iterator[tuple[str, str]]:
    for pattern, price in prices.items():
        for name in ("input", "output"):
            if getattr(price, name) is None:
                yield f"prices.{pattern}.{name}", "is required: US dollars per million tokens"


def _webhooks(runs: RunSettings) -> Iterator[tuple[str, str]]:
    if not (runs.webhooks or runs.webhook_secret or runs.webhook_allowed_hosts):
        return
    from services.runs.webhooks.address import check_url  # takes a while to import, and few configurations need it
    from services.runs.webhooks.event_types import RESPONSE_EVENTS
    from services.runs.webhooks.signing import to_key

    if runs.webhook_secret:
        yield from _refused("runs.webhook_secret", to_key, runs.webhook_secret)
    for index, host in enumerate(runs.webhook_allowed_hosts):
        if not _is_host(host):
            expected = "expected a host name or an address, without a scheme, port or path"
            yield f"runs.webhook_allowed_hosts[{index}]", f"{expected}, got {host!r}"
    for index, webhook in enumerate(runs.webhooks):
        key = f"runs.webhooks[{index}]"
        for unknown in [name for name in webhook.events if name not in RESPONSE_EVENTS]:
            yield f"{key}.events", f"{unknown!r} is not an event; expected {', '.join(RESPONSE_EVENTS)}"
        yield from _refused(f"{key}.url", check_url, webhook.url, runs.webhook_allowed_hosts)
        if webhook.secret or not runs.webhook_secret:
            yield from _refused(f"{key}.secret", to_key, webhook.secret)


def _refused(key: str, check: Callable[..., object], *values: Any) -> Iterator[tuple[str, str]]:
    from services.errors import InvalidRequest

    try:
        check(*values)
    except InvalidRequest as error:
        yield key, str(error.details["issue"])


def _is_host(text: str) -> bool:
    """Whether it can be the host of a webhook's URL."""
    from services.errors import InvalidRequest
    from services.runs.webhooks.address import check_url, to_host

    host = to_host(text)
    try:
        return check_url(f"https://[{host}]/" if ":" in host else f"https://{host}/", [host]).host == host
    except InvalidRequest:
        return False


def _origins(server: ServerSettings) -> Iterator[tuple[str, str]]:
    for index, origin in enumerate(server.cors_allowed_origins):
        if not ORIGIN.fullmatch(origin):
            yield f"server.cors_allowed_origins[{index}]", f"expected an origin such as https://example.com, got {origin!r}"
    if server.cors_allow_credentials and "*" in server.cors_allowed_origins:
        yield (
            "server.cors_allow_credentials",
            "cannot be true while server.cors_allowed_origins holds '*': any web page could use a visitor's credentials; list the origins",
        )


def rate_limit_problems(server: ServerSettings, stored: Iterable[Key] = ()) -> Iterator[tuple[str, str]]:
    """Keys of settings, each with what is wrong. ``stored``: the keys of the store."""
    scheme = urlsplit(server.rate_limit_storage).scheme
    if scheme not in STORAGES:
        yield "server.rate_limit_storage", "expected memory:// or a redis:// address"
    elif scheme != "memory" and find_spec("redis") is None:
        yield "server.rate_limit_storage", f"needs the redis package, which is not installed: {sys.executable} -m pip install redis"
    elif _counts_apart(server) and (limits := rate_limits(server, stored)):
        yield (
            "server.workers",
            f"cannot be {server.workers} with server.rate_limit_storage memory://: each worker would count for itself "
            f"and let the limit through several times ({', '.join(limits)}); set a redis:// address or one worker",
        )


def why_no_own_rate(server: ServerSettings) -> str | None:
    """Why no key can have a rate of its own."""
    if not _counts_apart(server):
        return None
    return f"{server.workers} workers cannot count together with server.rate_limit_storage memory://; set a redis:// address or one worker"


def _counts_apart(server: ServerSettings) -> bool:
    """Whether each worker would count rates for itself."""
    return server.workers > 1 and urlsplit(server.rate_limit_storage).scheme == "memory"


def rate_limits(server: ServerSettings, stored: Iterable[Key] = ()) -> list[str]:
    """What limits a rate: the server's own setting, and the keys that have one of their own."""
    own = [index for index, key in enumerate(server.api_keys) if not isinstance(key, str) and (key.rate_limit_rps or key.rate_limit_burst)]
    return [
        *(["server.rate_limit_enabled"] if server.rate_limit_enabled else []),
        *(f"server.api_keys[{index}]" for index in own),
        *(f"the stored key {key.name}" for key in stored if key.rights.has_own_rate),
    ]


def _tracing(server: ServerSettings) -> Iterator[tuple[str, str]]:
    if not server.tracing_enabled:
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        yield "server.tracing_enabled", f"needs OpenTelemetry, which is not installed: {sys.executable} -m pip install {OTEL_PACKAGES}"
    for problem in wrong_variables(os.environ):
        yield "server.tracing_enabled", problem


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
