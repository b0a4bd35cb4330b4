"""The application for a WSGI server and for `flask run`. Patches first: what is imported before keeps its blocking calls."""

from gevent import monkey

monkey.patch_all()

from app.factory import create_app  # noqa: E402
from app.loading import load_settings  # noqa: E402
from app.serve import protect_secrets, refuse_if_open  # noqa: E402

settings = load_settings()
refuse_if_open(settings)
protect_secrets()
app = create_app(settings)
