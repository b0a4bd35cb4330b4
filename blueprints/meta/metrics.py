"""`GET /metrics` in Prometheus text format. `app.observability` collects the metrics."""

from __future__ import annotations

from flask import Response, current_app

from blueprints.marks import admin, can_fail, public_where
from blueprints.validation import Blueprint
from services.errors import NotFound

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

blp = Blueprint("metrics", __name__, description="Server metrics")


@blp.route("/metrics", methods=["GET"], strict_slashes=True)  # a single path, so that a proxy rule covers it
@blp.response(200, content_type="text/plain", description="Prometheus text format; requires `server.metrics_enabled`")
@public_where("metrics_public")
@admin
@can_fail("not_found")
def get_metrics() -> Response:
    """Requests, runs, queue waits, tokens and costs, for Prometheus. Where keys are required, an admin's is."""
    render = current_app.extensions["clinvk.observation"].render_metrics
    if render is None:
        raise NotFound("metrics are disabled; enable them with server.metrics_enabled")
    return Response(render(), content_type=CONTENT_TYPE)
