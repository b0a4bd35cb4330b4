"""The application for gunicorn and for `flask run`. Patches first: what is imported before keeps its blocking calls."""

from app.startup import making_what_stays, patch_blocking_calls

with making_what_stays():
    patch_blocking_calls()
    from app.server.hosting import host

app = host()
