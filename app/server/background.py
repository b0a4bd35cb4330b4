"""Startup and shutdown of a serving process, the same under every server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import flask
import gevent

from app.runs import start_runs
from blueprints.context import Services
from services.cancellation import SERVER_STOPS
from services.processes.leftovers import end_leftover_processes, remove_leftover_folders
from services.processes.own_process import become_subreaper

POLL_S = 0.05
DRAIN_S = 8.0
"""How long runs that are stopped after the grace period may take to exit and send their last events."""


def begin(app: flask.Flask) -> None:
    """Become subreaper, end leftovers of a killed server, and start retention, metrics and warm processes."""
    become_subreaper()
    gevent.get_hub().loop.install_sigchld()  # reaps every child, adopted ones included
    end_leftovers()
    services: Services = app.extensions["clinvk"]
    services.keys.start()
    start_runs(app)
    services.upkeep.start()
    services.runner.prestart()
    app.extensions["clinvk.observation"].start()


def finish(
    app: flask.Flask, *, busy: Callable[[], int], grace_s: float, is_hurried: Callable[[], bool], beat: Callable[[], None] = lambda: None
) -> int:
    """Wait for the requests that ``busy`` counts, then stop the remaining runs with an error event. Returns how many requests were cut off.

    ``is_hurried`` ends the grace period early; ``beat`` is called throughout.
    """
    services: Services = app.extensions["clinvk"]
    worker = services.runs.worker

    def wait_until_idle(within_s: float, is_enough: Callable[[], bool | None]) -> None:
        deadline = monotonic() + within_s
        while (busy() or worker.busy) and monotonic() < deadline and not is_enough():
            beat()
            gevent.sleep(POLL_S)

    def stop_all() -> None:
        worker.stop()
        services.runner.cancel_all(SERVER_STOPS)

    services.runner.drain()
    worker.drain()
    services.runs.events.wake_readers()
    wait_until_idle(grace_s, is_hurried)
    # Repeatedly: a run that ends makes room for a queued one.
    wait_until_idle(DRAIN_S, stop_all)
    services.runs.peers.close()
    services.runs.deliverer.stop()
    services.ledger.close()
    services.runner.close()
    services.continuation.close()
    services.spawner.close()
    return busy()


def end_leftovers() -> None:
    """End the processes left by a server that was killed together with its supervisors."""
    processes, folders = end_leftover_processes(), remove_leftover_folders()
    if processes or folders:
        parts = [f"ended {processes} process(es)"] * bool(processes) + [f"removed {folders} folder(s)"] * bool(folders)
        logging.getLogger("clinvk.start").info("%s left behind by a server that was killed", " and ".join(parts))


def grace_notice(busy: int, grace_s: float) -> str:
    return f"clinvk: {busy} request(s) may finish within {grace_s:g} s; Ctrl-C again stops at once"
