"""SIGHUP: reload the configuration without interrupting work. Running requests finish under the old one.

The parent process validates first, so that workers never see an invalid configuration. Then every worker replaces its
application; old and new share the runner, and with it running work, limits and the queue. gunicorn's own reload replaces the
workers: it would end every stream that outlives the grace period, and reset every limit.
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
    """The application that replaces ``app``, and which changes need a restart. Raises SettingsError."""
    from app.build import renew_services
    from app.factory import create_app
    from app.runs import start_runs  # not in the parent process, which patches nothing

    old: Configuration = app.extensions["clinvk.configuration"]
    configuration, postponed = old.again()
    services = renew_services(app.extensions["clinvk"], configuration.settings)
    new = create_app(
        configuration.settings,
        keys=configuration.keys,
        is_open=configuration.is_open,
        is_local=configuration.is_local,
        services=services,
        observation=app.extensions["clinvk.observation"],
        counts=app.extensions["clinvk.counts"],
    )
    new.extensions["clinvk.configuration"] = configuration
    new.config["CLINVK_STARTED_AT"] = app.config["CLINVK_STARTED_AT"]
    start_runs(new)
    return new, postponed


def obey_hangup(arbiter: Any) -> None:
    """Make gunicorn's parent process reload the configuration on SIGHUP. Called from the hook ``when_ready``."""
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
    log.warning("configuration reloaded; its API keys: %s", ", ".join(configuration.keys.names) or "none")
    if postponed:
        log.warning("these changes take effect only after a restart: %s", ", ".join(postponed))


def log_refusal(error: SettingsError) -> None:
    for problem in error.problems:
        log.error("the new configuration is invalid; keeping the old one: %s", problem)
