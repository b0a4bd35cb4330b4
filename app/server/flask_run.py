"""Adds to `flask run` the background work, graceful stop and reload that `app.server.worker` provides under gunicorn."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

import click
import flask
import gevent
from flask.helpers import get_debug_flag
from werkzeug.wsgi import ClosingIterator

from app.config.problems import SettingsError
from app.server import background
from app.server.reload import log_refusal, log_renewal, renew

NOTICE = (
    "clinvk: flask run is for development: one process (server.workers does not count), and no time limit for a request's head; "
    "clinvk serve has both"
)


def is_flask_run() -> bool:
    """Whether `flask run` is loading the application, in the serving process (not the reloader's)."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run":
        return False
    reload = context.params.get("reload")
    reloads = get_debug_flag() if reload is None else reload
    return not reloads or os.environ.get("WERKZEUG_RUN_MAIN") == "true"


class FlaskRun:
    """Wraps the application under `flask run`, counts its requests and replaces it on SIGHUP."""

    def __init__(self, app: flask.Flask) -> None:
        self._app = app
        self._application = app.wsgi_app
        self._busy = 0
        self._stops = 0
        app.wsgi_app = self  # type: ignore[method-assign]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self._busy += 1
        try:
            body = self._application(environ, start_response)
        except BaseException:
            self._leave()
            raise
        return ClosingIterator(body, self._leave)

    def _leave(self) -> None:
        self._busy -= 1

    def start(self) -> None:
        """Defer to the event loop: by then the server listens and has installed its own signal handlers."""
        print(NOTICE, file=sys.stderr, flush=True)
        gevent.spawn(self._begin)

    def _begin(self) -> None:
        for number, handle in ((signal.SIGTERM, self._stop), (signal.SIGINT, self._stop), (signal.SIGHUP, self._renew)):
            gevent.signal_handler(number, handle)
        background.begin(self._app)

    def _stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            return  # ends the grace period of the first
        grace_s = self._app.extensions["clinvk.configuration"].settings.server.shutdown_grace_secs
        if self._busy and grace_s > 0:
            print(background.grace_notice(self._busy, grace_s), file=sys.stderr, flush=True)
        background.finish(self._app, busy=lambda: self._busy, grace_s=grace_s, is_hurried=lambda: self._stops > 1)
        hub = gevent.get_hub()
        hub.loop.run_callback(hub.parent.throw, SystemExit(0))

    def _renew(self) -> None:
        try:
            self._app, postponed = renew(self._app)
        except SettingsError as error:
            log_refusal(error)
            return
        self._application = self._app.wsgi_app
        log_renewal(self._app.extensions["clinvk.configuration"], postponed)
