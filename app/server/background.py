"""What a process that serves does besides answering: at its start, and at its end. The same under every server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import flask
import gevent

from blueprints.context import Services
from services.cancellation import SERVER_STOPS
from services.processes.leftovers import end_leftover_processes, remove_leftover_folders
from services.processes.own_process import become_subreaper

POLL_S = 0.05
DRAIN_S = 8.0
"""For runs that are ended when the grace is over: their processes exit, their last events go out."""


def begin(app: flask.Flask) -> None:
    """Adopt what escapes a supervisor, end what a killed server left behind; start retention, metrics, and the processes that wait for runs."""
    become_subreaper()
    gevent.get_hub().loop.install_sigchld()  # reaps whatever becomes a child of this process
    end_leftovers()
    services: Services = app.extensions["clinvk"]
    services.upkeep.start()
    services.runner.prestart()
    app.extensions["clinvk.observation"].start()


def finish(
    app: flask.Flask, *, busy: Callable[[], int], grace_s: float, is_hurried: Callable[[], bool], beat: Callable[[], None] = lambda: None
) -> int:
    """Let the requests finish that ``busy`` counts, then end the runs that are left with an error event. Returns how many were cut off.

    ``is_hurried`` ends the grace early; ``beat`` is called all the while.
    """
    services: Services = app.extensions["clinvk"]

    def wait_until_idle(within_s: float, is_enough: Callable[[], bool | None]) -> None:
        deadline = monotonic() + within_s
        while busy() and monotonic() < deadline and not is_enough():
            beat()
            gevent.sleep(POLL_S)

    services.runner.drain()
    wait_until_idle(grace_s, is_hurried)
    # Again and again: a run that ends makes room for one that waited in the queue.
    wait_until_idle(DRAIN_S, lambda: services.runner.cancel_all(SERVER_STOPS))
    services.runner.close()
    services.continuation.close()
    services.spawner.close()
    return busy()


def end_leftovers() -> None:
    """What a server that was killed with all its processes' supervisors could not end itself."""
    processes, folders = end_leftover_processes(), remove_leftover_folders()
    if processes or folders:
        parts = [f"ended {processes} process(es)"] * bool(processes) + [f"removed {folders} folder(s)"] * bool(folders)
        logging.getLogger("clinvk.start").info("%s left behind by a server that was killed", " and ".join(parts))


def grace_notice(busy: int, grace_s: float) -> str:
    return f"clinvk: {busy} request(s) may finish within {grace_s:g} s; Ctrl-C again stops at once"
