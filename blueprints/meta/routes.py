"""Health, the OpenAPI document and the index."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import orjson
from flask import Response, current_app, jsonify, redirect, request, url_for

from blueprints.context import services
from blueprints.current_request import request_id, sees_details
from blueprints.marks import public
from blueprints.meta.schemas import HealthSchema
from blueprints.native.translate import meta
from blueprints.validation import Blueprint
from services.errors import StoreUnavailable
from services.store.sessions import SessionStore

log = logging.getLogger("clinvk.sessions")

blp = Blueprint("meta", __name__, description="Health and OpenAPI document; no key required")

OPENAPI = "clinvk.openapi"
"""Key of the cached, encoded document: building it blocks the event loop for milliseconds."""


@public
def get_health() -> Any:
    """The server's status; with a valid key, or if no keys are configured, also its version, backends and sessions."""
    svc = services()
    backends = [svc.prober.availability(spec) for spec in svc.runner.backends.values() if spec.enabled]
    sessions = session_store_health(svc.conversations.store)
    spawner = svc.spawner
    expected = svc.expected_backends | {svc.default_backend}
    is_well = all(backend.available for backend in backends if backend.name in expected) and not spawner.is_being_replaced
    up_s = monotonic() - current_app.config["CLINVK_STARTED_AT"]
    status = {"status": "unhealthy" if sessions["count"] is None else "ok" if is_well else "degraded"}
    answer = jsonify(
        status
        if not sees_details()
        else {
            **status,
            "version": current_app.config["API_VERSION"],
            "uptime": to_duration(up_s),
            "uptime_millis": int(up_s * 1000),
            "backends": [
                {
                    "name": backend.name,
                    "available": backend.available,
                    "version": backend.version,
                    "reason": backend.reason,
                    "is_required": backend.name in expected,
                }
                for backend in backends
            ],
            "sessions": sessions,
            "spawner": {"status": "replacing" if spawner.is_being_replaced else "ok", "replacements": spawner.replacements},
            "meta": meta(request_id()),
        }
    )
    answer.status_code = 503 if sessions["count"] is None else 200
    return answer


def session_store_health(store: SessionStore) -> dict[str, Any]:
    """Logs the reason of a failure instead of returning it, because the route requires no key."""
    try:
        return {"status": "ok", "count": store.count()}
    except StoreUnavailable as error:
        log.error("%s", error.message)
        return {"status": "unavailable", "count": None}


# One function, two endpoints: flask-smorest documents one rule per endpoint.
for path, endpoint in (("/health", "health"), ("/api/v1/health", "api_health")):
    documented = blp.response(200, HealthSchema())(get_health)
    documented = blp.alt_response(503, schema=HealthSchema(), description="The session store is unavailable")(documented)
    blp.add_url_rule(path, endpoint, documented, methods=["GET"])


@blp.route("/openapi.json", methods=["GET"])
@blp.response(200, description="The OpenAPI 3 document of this server")
@public
def get_openapi() -> Any:
    """The OpenAPI document."""
    extensions = current_app.extensions
    document = extensions.get(OPENAPI)
    if document is None:
        api = extensions["flask-smorest"]["apis"][""]["ext_obj"]
        document = extensions[OPENAPI] = orjson.dumps(with_operation_ids(api.spec.to_dict()), option=orjson.OPT_NON_STR_KEYS)
    servers = orjson.dumps({"servers": [{"url": request.script_root or "/"}]})  # a proxy may mount the server under a prefix
    return Response(servers[:-1] + b"," + document[1:], mimetype="application/json")


@blp.route("/", methods=["GET"])
@blp.response(200, description="Links to documentation, OpenAPI document and health")
@blp.alt_response(302, description="Browsers: redirect to the documentation", success=True)
@public
def get_index() -> Any:
    """Redirect browsers to the documentation; return a short index to other clients."""
    # Not `.best`: for Chrome that is application/signed-exchange, the most specific type in its Accept header.
    if request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html":
        return redirect(url_for("pages.get_docs"))
    links = {
        name: url_for(endpoint)
        for name, endpoint in (("docs", "pages.get_docs"), ("openapi", "meta.get_openapi"), ("health", "meta.health"))
    }
    version = {"version": current_app.config["API_VERSION"]} if sees_details() else {}
    base_urls = {surface: f"{request.script_root}/{path}" for surface, path in (("openai", "openai/v1"), ("anthropic", "anthropic"))}
    return jsonify({"name": current_app.config["API_TITLE"], **version, **links, "base_urls": base_urls})


def to_duration(seconds: float) -> str:
    """``2m31s``, ``1h0m5s``, ``3d4h0m0s``: from the largest nonzero unit."""
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return "".join(parts)


def with_operation_ids(document: dict[str, Any]) -> dict[str, Any]:
    """Give every operation a unique id, which generated clients use as the function name."""
    for path, operations in document["paths"].items():
        words = "_".join(word.strip("{}").replace(".", "_") for word in path.split("/") if word) or "index"
        for method, operation in operations.items():
            if isinstance(operation, dict):
                operation.setdefault("operationId", f"{method}_{words}".replace("-", "_"))
    return document
