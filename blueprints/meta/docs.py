"""Swagger UI at `/docs`, served entirely by this server: it works offline and makes no third-party requests."""

from __future__ import annotations

from flask import Blueprint, Response, abort, send_from_directory, url_for
from swagger_ui_bundle import swagger_ui_path

from blueprints.marks import public

pages = Blueprint("pages", __name__)

ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-16x16.png", "favicon-32x32.png"})
ASSET_MAX_AGE_S = 86_400

# Swagger UI sets style attributes and draws its icons from data URLs. Scripts are loaded only from files.
CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>clinvk API</title>
<link rel="stylesheet" href="{css}">
<link rel="icon" type="image/png" sizes="32x32" href="{icon}">
</head>
<body>
<div id="swagger-ui" data-url="{openapi}"></div>
<script src="{bundle}"></script>
<script src="{start}"></script>
</body>
</html>
"""

# Without `validatorUrl: null` Swagger UI sends the document's URL to an online validator.
START = """\
SwaggerUIBundle({
  url: document.getElementById("swagger-ui").dataset.url,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false,
  validatorUrl: null,
});
"""


@pages.get("/docs")
@public
def get_docs() -> Response:
    def asset(name: str) -> str:
        return url_for("pages.get_asset", name=name)

    page = PAGE.format(
        css=asset("swagger-ui.css"),
        icon=asset("favicon-32x32.png"),
        bundle=asset("swagger-ui-bundle.js"),
        start=url_for("pages.get_start"),
        openapi=url_for("meta.get_openapi"),
    )
    return Response(page, mimetype="text/html", headers={"Content-Security-Policy": CSP, "Referrer-Policy": "no-referrer"})


@pages.get("/docs/start.js")
@public
def get_start() -> Response:
    return Response(START, mimetype="text/javascript", headers={"Cache-Control": "no-cache"})


@pages.get("/docs/<name>")
@public
def get_asset(name: str) -> Response:
    if name not in ASSETS:
        abort(404)
    return send_from_directory(str(swagger_ui_path), name, max_age=ASSET_MAX_AGE_S)
