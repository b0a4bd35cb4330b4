"""gunicorn's settings for its own command: `gunicorn -c python:app.server.gunicorn_conf wsgi:app`.

They come from clinvk's configuration; gunicorn's command line takes precedence.
"""

from __future__ import annotations

from app.startup import making_what_stays, patch_blocking_calls

with making_what_stays():
    patch_blocking_calls()

    from dataclasses import replace
    from typing import Any

    from app.server import hosting
    from app.server.serve import gunicorn_options

_configuration = hosting.load_configuration()
_options = gunicorn_options(_configuration.settings.server, _configuration.stored_keys)


def _on_starting(arbiter: Any) -> None:
    _options["on_starting"](arbiter)
    settings = _configuration.settings
    settings = replace(settings, server=replace(settings.server, workers=arbiter.num_workers))
    arbiter.app.configuration = replace(_configuration, settings=settings)
    hosting.program = arbiter.app


globals().update(_options, on_starting=_on_starting)
