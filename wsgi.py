"""The application for a WSGI server and for `flask run`. Patches first: what is imported before keeps its blocking calls."""

from gevent import monkey

monkey.patch_all()

from app.factory import create_app  # noqa: E402

app = create_app()
