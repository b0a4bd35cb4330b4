"""`clinvk serve`: binds the address, validates everything, and runs gunicorn."""

from __future__ import annotations

import errno
import math
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import flask
import gevent
from gunicorn.app.base import BaseApplication

from app.backends import build_backends, check_database
from app.config.checks import check_rates
from app.config.environment import PREFIX
from app.config.load import load_settings
from app.config.problems import Problem, SettingsError
from app.config.schema import ServerSettings, Settings
from app.configuration import Configuration
from app.observability import multiprocess as metrics_files
from app.observability.logs import configure_logging
from app.security.api_keys import key_of_this_run, load_keys, notes_on
from app.security.hosts import is_loopback
from app.security.stored_keys import stored_keys
from app.server.arbiter import GracefulArbiter
from app.server.banner import backend_lines, opening
from app.server.open_files import raise_limit
from app.server.reload import obey_hangup
from app.server.shared_state import StoredKeys, keep_number_of_workers, refuse_wrong_workers
from app.server.worker import GRACE_MARGIN_S
from app.startup import making_what_stays
from services.access.key import new_secret
from services.access.key_ring import KeyRing
from services.processes.own_process import forbid_inspection, hide_environment

BACKLOG = 2048
WORKER_TIMEOUT_S = 60
"""A worker whose event loop blocks this long is replaced."""
BANNER_WAIT_S = 10.0
MAKE_KEY = "`clinvk keys create NAME --role admin`"
NAMES_SHOWN = 12
"""Of keys, in the banner."""
"""How long the banner waits for the CLIs' versions. Nothing else waits for them."""


class CannotListen(Exception):
    """The address cannot be bound; the message states the reason and a remedy."""


def gunicorn_options(server: ServerSettings, stored: StoredKeys) -> dict[str, Any]:
    """gunicorn's settings, for `clinvk serve` and `app.server.gunicorn_conf`."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return {
        "bind": f"{host}:{server.port}",
        "backlog": BACKLOG,
        "workers": server.workers,
        "worker_class": "app.server.worker.Worker",
        "worker_connections": server.worker_connections,
        "timeout": WORKER_TIMEOUT_S,
        "graceful_timeout": math.ceil(server.shutdown_grace_secs) + GRACE_MARGIN_S,
        "keepalive": math.ceil(server.idle_timeout_secs),
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "forwarded_allow_ips": "",  # server.trusted_proxies decides whose X-Forwarded-For is trusted
        "accesslog": None,  # our own log has a line per request
        "loglevel": "warning",
        "logger_class": "app.server.worker.Log",
        "control_socket_disable": True,
        "proc_name": "clinvk",
        **_hooks(server, stored),
    }


def _hooks(server: ServerSettings, stored: StoredKeys) -> dict[str, Callable[..., None]]:
    shared = metrics_files.hooks() if server.metrics_enabled else {}
    check_workers = refuse_wrong_workers(server, stored)

    def on_starting(arbiter: Any) -> None:
        check_workers(arbiter)
        protect_secrets()
        if make := shared.get("on_starting"):
            make(arbiter)

    def when_ready(arbiter: Any) -> None:
        obey_hangup(arbiter)
        keep_number_of_workers(arbiter, server, stored)

    return {**shared, "on_starting": on_starting, "when_ready": when_ready}


def protect_secrets() -> None:
    """Hide this process's and its workers' secrets from the agents, which run as the same user."""
    hide_environment(PREFIX)
    forbid_inspection()


def serve(
    settings: Settings, *, is_open: bool = False, read: Callable[[], Settings] = load_settings, secret_of_this_run: str | None = None
) -> int:
    """Serve until a signal stops the server. Raises SettingsError, CannotListen.

    ``is_open`` disables authentication. ``read`` reloads the settings on SIGHUP. ``secret_of_this_run``: of the command that this server is for.
    """
    build_backends(settings)
    check_database(settings)
    stored = () if is_open else stored_keys(settings)
    check_rates(settings, stored)
    keys = KeyRing() if is_open else load_keys(settings, stored=[key.name for key in stored])
    all_keys = KeyRing((*keys, *stored))
    listener = listen(settings.server.host, settings.server.port)
    address, port = listener.getsockname()[:2]
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    configure_logging(settings.server.log_format, settings.server.log_level, file=settings.server.log_file)
    is_local = is_loopback(address)
    is_private = secret_of_this_run is not None
    if not (is_private or is_open or is_local or keys or stored):
        secret_of_this_run = new_secret()
        access = f"with this API key, made for this run ({MAKE_KEY} makes one that stays):\n            {secret_of_this_run}"
    else:
        access = who_has_access(all_keys, is_local=is_local, is_open=is_open)
    own = key_of_this_run(secret_of_this_run) if secret_of_this_run else None
    files = raise_limit(settings.server)
    print(opening(settings, url, access, files, stored, notes_on(all_keys)), file=sys.stderr, flush=True)
    configuration = Configuration(
        settings=settings,
        keys=KeyRing((*keys, own)) if own else keys,
        read=read,
        is_open=is_open,
        is_local=is_local,
        key_of_this_run=own,
        is_private=is_private,
    )
    Gunicorn(configuration, listener).run()
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Host names are resolved, IPv4 first. Raises CannotListen."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotListen(f"server.host {host!r} is not an address of this machine: {error.strerror}") from None
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotListen(_why_not(error, host, port)) from None
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is in use; stop the program that has it, or choose another with --port (0: any free one)"
        case errno.EACCES:
            return f"this user may not listen on port {port} on {host}; choose a port above 1023 with --port"
        case errno.EADDRNOTAVAIL:
            return f"{host} is not an address of this machine; choose another with --host"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def who_has_access(keys: KeyRing, *, is_local: bool, is_open: bool) -> str:
    """``keys``: those of the store too."""
    if is_open:
        where = "programs on this machine" if is_local else "EVERYONE who can reach this address"
        return f"open to {where}, without a key (--no-auth): anyone who can connect can run coding agents as this user"
    names = [key.name for key in keys if not key.is_expired]
    if keys and not names:
        return f"nobody: every API key has expired ({', '.join(keys.names[:NAMES_SHOWN])}); {MAKE_KEY} makes another"
    if keys:
        more = f" and {len(names) - NAMES_SHOWN} more (clinvk keys list)" if len(names) > NAMES_SHOWN else ""
        return f"with an API key: {', '.join(names[:NAMES_SHOWN])}{more}"
    return f"no API key required (local connections only); {MAKE_KEY} makes one, which is then required"


def refuse_if_nobody_has_access(settings: Settings, names: Sequence[str]) -> None:
    """For servers not started by `serve`, where a generated key would go unread. ``names``: of the keys. Raises SettingsError."""
    if not names and not is_loopback(settings.server.host):
        message = f"is {settings.server.host}, and there is no API key: set CLINVK_API_KEYS, or listen on 127.0.0.1"
        raise SettingsError([Problem(settings.source_of("server.host"), "server.host", message)])


class Gunicorn(BaseApplication):
    """Runs the application in workers that share the listener and the configuration."""

    def __init__(self, configuration: Configuration, listener: socket.socket) -> None:
        self.configuration = configuration
        self._descriptor = listener.detach()
        super().__init__()

    def load_config(self) -> None:
        for name, value in gunicorn_options(self.configuration.settings.server, self.configuration.stored_keys).items():
            self.cfg.set(name, value)
        self.cfg.set("bind", f"fd://{self._descriptor}")
        self.cfg.set("post_worker_init", self._tell_backends)

    def load(self) -> flask.Flask:
        with making_what_stays():
            from app.factory import build_app

            return build_app(self.configuration)

    def _tell_backends(self, worker: Any) -> None:
        """The first worker prints the backends once they are probed; the probe also caches their versions."""
        if worker.age > 1:
            return
        services = worker.wsgi.extensions["clinvk"]

        def tell() -> None:
            specs = [spec for spec in services.runner.backends.values() if spec.enabled]
            found = services.prober.with_versions(specs, BANNER_WAIT_S)
            print(backend_lines(specs, found, services.default_backend), file=sys.stderr, flush=True)

        gevent.spawn(tell)

    def run(self) -> None:
        GracefulArbiter(self).run()
