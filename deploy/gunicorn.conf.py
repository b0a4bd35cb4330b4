"""For `gunicorn -c deploy/gunicorn.conf.py wsgi:app`, where something else than `clinvk serve` starts the server."""

from app.server.gunicorn_conf import *  # noqa: F403
