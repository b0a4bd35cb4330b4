"""State that several workers, or servers on several machines, must share. An unsafe setup is rejected at startup, under any server.

Rejected: rate limits in memory, also those of single keys, with more than one worker; workers other than gevent's. Shared by all workers of one machine:
sessions (SQLite), metrics, the key generated for one run. Counted per worker, as the startup notes state: run slots and queue
(`max_concurrent_runs`, `max_queued_runs`), warm processes, wrong keys. Servers on several machines need Redis and PostgreSQL.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from gunicorn.workers.ggevent import GeventWorker

from app.config.checks import rate_limit_problems, rate_limits
from app.config.schema import ServerSettings, Settings
from app.security.hosts import is_loopback
from app.server.worker import Worker
from services.access.key import Key

log = logging.getLogger("clinvk.start")

WRONG_OPTIONS = 2
"""The exit code of a rejected start, as for `clinvk serve`."""


StoredKeys = Callable[[], Collection[Key]]
"""The keys of the store, as they are now."""


def refuse_wrong_workers(server: ServerSettings, stored: StoredKeys) -> Callable[[Any], None]:
    """gunicorn's hook ``on_starting``: its command line may override the settings. `-k gevent` becomes our subclass of it."""

    def check(arbiter: Any) -> None:
        problems = [f"{key} {message}" for key, message in rate_limit_problems(replace(server, workers=arbiter.cfg.workers), stored())]
        if arbiter.worker_class is GeventWorker:
            arbiter.worker_class = Worker  # the same loop, with time limits and a graceful stop
        if not issubclass(arbiter.worker_class, Worker):
            problems.append(
                f"the worker class {arbiter.cfg.worker_class_str} cannot serve: streams, time limits and lost clients need gevent's loop; "
                "leave --worker-class out, or say gevent"
            )
        if problems:
            print("\n".join(f"clinvk: {problem}" for problem in problems), file=sys.stderr, flush=True)
            raise SystemExit(WRONG_OPTIONS)

    return check


def keep_number_of_workers(arbiter: Any, server: ServerSettings, stored: StoredKeys) -> None:
    """Ignore SIGTTIN if another worker would be unsafe. Runs in gunicorn's parent process, in the hook ``when_ready``."""
    add_worker = arbiter.handle_ttin

    def handle_ttin() -> None:
        problems = list(rate_limit_problems(replace(server, workers=arbiter.num_workers + 1), stored()))
        for key, message in problems:
            log.error("no worker is added: %s %s", key, message)
        if not problems:
            add_worker()

    arbiter.handle_ttin = handle_ttin


def notes(settings: Settings, stored: Collection[Key] = ()) -> list[str]:
    """Notes on what each server counts for itself. That is correct for one server; it cannot detect that there are several."""
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
    if is_shared and rate_limits(server, stored) and server.rate_limit_storage.startswith("memory"):
        found.append(
            "sessions may be shared between servers (PostgreSQL), but each counts its rate limit alone; see server.rate_limit_storage"
        )
    return found
