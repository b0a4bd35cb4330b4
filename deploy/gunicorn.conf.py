"""For `gunicorn -c deploy/gunicorn.conf.py wsgi:app`, where something else than `clinvk serve` starts the server.

The settings come from where they always do: the configuration file and the environment.
"""

from gevent import monkey

monkey.patch_all()

from app.loading import load_settings  # noqa: E402
from app.serve import gunicorn_options, refuse_if_open  # noqa: E402

_settings = load_settings()
refuse_if_open(_settings)
globals().update(gunicorn_options(_settings.server))
