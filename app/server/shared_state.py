"""What several workers, or servers on several machines, must share. What would be wrong is refused at the start, whoever starts it.

Refused: rate limits counted in memory by more than one worker; workers whose loop is not gevent's. Shared by all workers of one
machine without further ado: sessions (SQLite), metrics, the key made for one run. Counted by each worker, and said so: places and
queue (`max_concurrent_runs`, `max_queued_runs`), warm processes, wrong keys. Servers on several machines need Redis and PostgreSQL.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from gunicorn.workers.ggevent import GeventWorker

from app.config.checks import rate_limit_problems
from app.config.schema import ServerSettings, Settings
from app.security.hosts import is_loopback
from app.server.worker import Worker

log = logging.getLogger("clinvk.start")

WRONG_OPTIONS = 2
"""The exit code of a start that is refused, as of `clinvk serve`."""


def refuse_wrong_workers(server: ServerSettings) -> Callable[[Any], None]:
    """gunicorn's hook ``on_starting``: its command line may say otherwise than the settings. `-k gevent` becomes our subclass of it."""

    def check(arbiter: Any) -> None:
        problems = [f"{key} {message}" for key, message in rate_limit_problems(replace(server, workers=arbiter.cfg.workers))]
        if arbiter.worker_class is GeventWorker:
            arbiter.worker_class = Worker  # the same loop, with time limits and a stop that loses nothing
        if not issubclass(arbiter.worker_class, Worker):
            problems.append(
                f"the worker class {arbiter.cfg.worker_class_str} cannot serve: streams, time limits and lost clients need gevent's loop; "
                "leave --worker-class out, or say gevent"
            )
        if problems:
            print("\n".join(f"clinvk: {problem}" for problem in problems), file=sys.stderr, flush=True)
            raise SystemExit(WRONG_OPTIONS)

    return check


def keep_number_of_workers(arbiter: Any, server: ServerSettings) -> None:
    """Where another worker would be wrong, SIGTTIN adds none. In gunicorn's parent process, when it is ready."""
    add_worker = arbiter.handle_ttin

    def handle_ttin() -> None:
        problems = list(rate_limit_problems(replace(server, workers=arbiter.num_workers + 1)))
        for key, message in problems:
            log.error("no worker is added: %s %s", key, message)
        if not problems:
            add_worker()

    arbiter.handle_ttin = handle_ttin


def notes(settings: Settings) -> list[str]:
    """What each server counts for itself where there may be several: nothing wrong with one, and one alone cannot tell."""
    server = settings.server
    found: list[str] = []
    if is_loopback(server.host) and server.allowed_hosts and not server.trusted_proxies:
        found.append(
            "server.allowed_hosts names hosts that only a proxy on this machine can serve, but server.trusted_proxies is empty: "
            "all its clients count as one address; add 127.0.0.1"
        )
    found += [
        f"server.allowed_workdir_prefixes: {path} is not an existing folder"
        for path in server.allowed_workdir_prefixes
        if not os.path.isdir(path)
    ]
    is_shared = settings.session.database_url.startswith("postgres")
    if is_shared and server.rate_limit_enabled and server.rate_limit_storage.startswith("memory"):
        found.append(
            "sessions may be shared between servers (PostgreSQL), but each counts its rate limit alone; see server.rate_limit_storage"
        )
    return found
