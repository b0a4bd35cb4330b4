"""SIGHUP: the server goes on with a new configuration. What runs goes on too, and ends as it began.

The parent process checks first: what it refuses, no worker ever sees. Then every worker puts a new application in the place
of the old one; they share the runner, so that running work, limits and the queue are those of one server all the while.
gunicorn's own way, new workers for old ones, would end every stream that takes longer than the grace, and start a new count
of every limit.
"""

from __future__ import annotations

import logging
import signal
from typing import Any

import flask

from app.config.problems import SettingsError
from app.configuration import Configuration

log = logging.getLogger("clinvk.config")


def renew(app: flask.Flask) -> tuple[flask.Flask, list[str]]:
    """The application that takes over from ``app``, and which changes need a restart. Raises SettingsError."""
    from app.build import renew_services
    from app.factory import create_app  # not in the parent process, which patches nothing

    old: Configuration = app.extensions["clinvk.configuration"]
    configuration, postponed = old.again()
    services = renew_services(app.extensions["clinvk"], configuration.settings)
    new = create_app(
        configuration.settings,
        keys=configuration.keys,
        services=services,
        observation=app.extensions["clinvk.observation"],
        counts=app.extensions["clinvk.counts"],
    )
    new.extensions["clinvk.configuration"] = configuration
    new.config["CLINVK_STARTED_AT"] = app.config["CLINVK_STARTED_AT"]
    return new, postponed


def obey_hangup(arbiter: Any) -> None:
    """Make gunicorn's parent process renew the configuration at SIGHUP. Its hook ``when_ready``."""
    program = arbiter.app

    def handle_hup() -> None:
        try:
            program.configuration, postponed = program.configuration.again()
        except SettingsError as error:
            log_refusal(error)
            return
        log_renewal(program.configuration, postponed)
        arbiter.kill_workers(signal.SIGHUP)

    arbiter.handle_hup = handle_hup


def log_renewal(configuration: Configuration, postponed: list[str]) -> None:
    log.warning("the configuration was read again; keys: %s", ", ".join(configuration.keys.names) or "none")
    if postponed:
        log.warning("changed, but in force only after a restart: %s", ", ".join(postponed))


def log_refusal(error: SettingsError) -> None:
    for problem in error.problems:
        log.error("the new configuration is refused, the old one stays: %s", problem)
