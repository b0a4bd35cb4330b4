"""gunicorn reads this by itself when it is started here: `gunicorn -k gevent wsgi:app`."""

from app.server.gunicorn_conf import *  # noqa: F403
