"""The application for servers not started by `clinvk serve`: gunicorn's own command, and `flask run`."""

from __future__ import annotations

import os
import sys
from typing import NoReturn, Protocol

import flask

from app.backends import build_backends, check_database
from app.config.checks import check_rates
from app.config.load import load_settings
from app.config.problems import SettingsError, print_problems
from app.configuration import Configuration
from app.security.api_keys import load_keys, notes_on
from app.security.stored_keys import stored_keys
from app.server.flask_run import FlaskRun, is_flask_run
from app.server.serve import protect_secrets, refuse_if_nobody_has_access
from app.startup import making_what_stays
from services.access.key_ring import KeyRing

EXIT_MISCONFIGURED = 2
GUNICORN_HALTS = 4
"""gunicorn's APP_LOAD_ERROR: with this exit code the arbiter stops instead of starting another worker."""

WITHOUT_OUR_SETTINGS = (
    "clinvk: gunicorn was started without clinvk's settings, so streams would be cut at a stop and limits would not hold; "
    "add: -c python:app.server.gunicorn_conf"
)


PRELOADED = "clinvk: --preload cannot be used: workers would share a database connection and count metrics apart; leave it out"


class Program(Protocol):
    """gunicorn's application object in the parent process. Workers inherit it with the current configuration."""

    configuration: Configuration


program: Program | None = None


def load_configuration() -> Configuration:
    """Load and validate the whole configuration, and print notes on its keys. If it is invalid, print one line per problem and exit with 2."""
    try:
        settings = load_settings()
        build_backends(settings)
        check_database(settings)
        stored = stored_keys(settings)
        check_rates(settings, stored)
        keys = load_keys(settings, stored=[key.name for key in stored])
        refuse_if_nobody_has_access(settings, (*keys.names, *(key.name for key in stored)))
        for note in notes_on(KeyRing((*keys, *stored))):
            print(f"clinvk: note: {note}", file=sys.stderr, flush=True)
        return Configuration.of(settings, keys)
    except SettingsError as error:
        print_problems(error)
        raise SystemExit(EXIT_MISCONFIGURED) from None


def host() -> flask.Flask:
    """The application, completed for the server that imports `wsgi`. Exits if it cannot be served."""
    with making_what_stays():
        from app.factory import build_app  # not in gunicorn's parent process

        if os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"):
            configuration = program.configuration if program else _halt_gunicorn()
        else:
            configuration = load_configuration()
        protect_secrets()
        app = build_app(configuration)
    if is_flask_run():
        FlaskRun(app).start()
    return app


def _halt_gunicorn() -> NoReturn:
    print(PRELOADED if "app.server.gunicorn_conf" in sys.modules else WITHOUT_OUR_SETTINGS, file=sys.stderr, flush=True)
    raise SystemExit(GUNICORN_HALTS)
