"""An application with stand-ins for what lies below it, and routes that fail on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import flask
from flask import Flask, request
from flask.testing import FlaskClient

from app.config.schema import ServerSettings, Settings
from app.factory import create_app
from app.observability.context import request_of
from app.security.hosts import is_loopback
from blueprints.current_request import caller, request_id
from services.access.access import Access
from services.clis.probe import Availability
from services.clis.spec import BackendSpec
from services.plans.windows import PlanWindows
from services.runs.tally import Tally
from tests.parts.keys import keys_in_force, ring_of

PREFIXES = {"native": "/api/v1", "openai": "/openai/v1", "anthropic": "/anthropic/v1"}
LOCAL = {"REMOTE_ADDR": "127.0.0.1"}


def backend(name: str) -> BackendSpec:
    return BackendSpec(name=name, command=(name,), decoder=lambda: None)  # type: ignore[arg-type, return-value]


def no_sessions() -> int:
    return 0


def stand_in_services(count_sessions: Callable[[], int] = no_sessions, **availability: bool) -> Any:
    """What `app.build` builds, as far as health looks at it: backends by name, available or not, and the session store."""
    names = availability or {"claude": True}

    def look(spec: BackendSpec) -> Availability:
        if names[spec.name]:
            return Availability(name=spec.name, available=True, version="1.2.3")
        return Availability(name=spec.name, available=False, reason=f"{spec.name!r} was not found on PATH")

    access = Access()
    return SimpleNamespace(
        access=access,
        keys=keys_in_force(access),
        runner=SimpleNamespace(backends={name: backend(name) for name in names}, plans=PlanWindows()),
        runs=SimpleNamespace(tally=Tally(), store=SimpleNamespace(count_queued=lambda: 0)),
        prober=SimpleNamespace(availability=look),
        ledger=SimpleNamespace(pending=0, ask=lambda question: {}),
        spawner=SimpleNamespace(is_being_replaced=False, replacements=0),
        conversations=SimpleNamespace(store=SimpleNamespace(count=count_sessions)),
        default_backend="claude",
        expected_backends=frozenset(names),
        dry_run=False,
    )


def shared_app(*keys: str, **server: Any) -> Flask:
    """`make_app`, once per set of arguments: for tests that only ask."""
    return _shared_app(keys, tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in server.items()))


@cache
def _shared_app(keys: tuple[str, ...], server: tuple[tuple[str, Any], ...]) -> Flask:
    return make_app(*keys, **{name: list(value) if isinstance(value, tuple) else value for name, value in server})


def make_app(*keys: str, services: Any = None, **server: Any) -> Flask:
    """An application whose ``server`` settings are the defaults but for those given; ``keys`` in the configuration's form.

    Wrong keys are not slowed down, unless ``rate_limit_burst`` is given: many tests present one to the same application.
    """
    settings = Settings(server=replace(ServerSettings(rate_limit_burst=10_000), **server))
    is_open = not keys and not is_loopback(settings.server.host)  # as `serve --no-auth`
    app = create_app(settings, keys=ring_of(*keys), is_open=is_open, services=services or stand_in_services())
    for prefix in PREFIXES.values():
        _add_test_routes(app, prefix)
    return app


def _add_test_routes(app: Flask, prefix: str) -> None:
    name = prefix.replace("/", "_")
    app.add_url_rule(f"{prefix}/echo", f"echo{name}", echo, methods=["GET", "POST", "DELETE"])
    app.add_url_rule(f"{prefix}/who", f"who{name}", lambda: flask.jsonify(caller=caller(), request_id=request_id()))


def echo() -> Any:
    return flask.jsonify(
        bytes=len(request.get_data()), client=request.remote_addr, scheme=request.scheme, peer=request_of(request.environ).proxy or None
    )


def fail_with(app: Flask, path: str, error: Callable[[], BaseException]) -> None:
    """Add a route that raises."""

    def view() -> Any:
        raise error()

    app.add_url_rule(path, f"fail_{path}", view, methods=["GET", "POST"])


def ask(app: Flask, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> Any:
    """GET (or what ``method`` says), from the machine itself unless ``environ_base`` says otherwise; body read and closed."""
    client: FlaskClient = app.test_client()
    return client.open(path, headers=dict(headers or {}), buffered=True, **{"environ_base": LOCAL, **more})
