"""`GET /metrics`, in Prometheus' text format. What is measured is no business of a route's."""

from __future__ import annotations

from flask import Response, current_app

from blueprints.marks import can_fail, public_where
from blueprints.validation import Blueprint
from services.errors import NotFound

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

blp = Blueprint("metrics", __name__, description="What the server does, in numbers")


@blp.route("/metrics", methods=["GET"], strict_slashes=True)  # one path, so that a proxy's rule for it covers it
@blp.response(200, content_type="text/plain", description="Prometheus' text format, where `server.metrics_enabled` is set")
@public_where("metrics_public")
@can_fail("not_found")
def get_metrics() -> Response:
    """Requests, runs, waits, tokens and costs, for Prometheus."""
    render = current_app.extensions["clinvk.observation"].render_metrics
    if render is None:
        raise NotFound("metrics are off; server.metrics_enabled switches them on")
    return Response(render(), content_type=CONTENT_TYPE)
