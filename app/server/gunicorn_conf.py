"""gunicorn's settings for its own command: `gunicorn -c python:app.server.gunicorn_conf wsgi:app`.

They come from clinvk's configuration; gunicorn's command line takes precedence.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

from dataclasses import replace  # noqa: E402
from typing import Any  # noqa: E402

from app.server import hosting  # noqa: E402
from app.server.serve import gunicorn_options  # noqa: E402

_configuration = hosting.load_configuration()
_options = gunicorn_options(_configuration.settings.server)


def _on_starting(arbiter: Any) -> None:
    _options["on_starting"](arbiter)
    settings = _configuration.settings
    settings = replace(settings, server=replace(settings.server, workers=arbiter.num_workers))
    arbiter.app.configuration = replace(_configuration, settings=settings)
    hosting.program = arbiter.app


globals().update(_options, on_starting=_on_starting)
