"""The application for gunicorn and for `flask run`. Patches first: what is imported before keeps its blocking calls."""

from gevent import monkey

monkey.patch_all()

from app.server.hosting import host  # noqa: E402

app = host()
