"""`/api/v1/keys`: the API keys, for admins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify

from blueprints.context import services
from blueprints.current_request import request_id
from blueprints.marks import admin, can_fail
from blueprints.native.key_schemas import KeyCreatedSchema, KeyListSchema, NewKeySchema
from blueprints.native.translate import meta
from blueprints.times import to_time
from blueprints.validation import Blueprint
from services.access.key import Key, to_moment, why_no_name
from services.access.rights_form import from_rights, to_rights
from services.errors import InvalidRequest
from services.suggestion import suggestion

blp = Blueprint("keys", __name__, url_prefix="/api/v1/keys", description="API keys, for admins")


@blp.route("", methods=["GET"])
@blp.response(200, KeyListSchema())
@admin
@can_fail("backend_unavailable")
def list_keys() -> Any:
    """List all keys: those of the configuration and the environment, and those that were made at run time."""
    listed = [from_key(key, last_used_at) for key, last_used_at in services().keys.listed()]
    return jsonify({"keys": listed, "meta": meta(request_id())})


@blp.route("", methods=["POST"])
@blp.arguments(NewKeySchema())
@blp.response(201, KeyCreatedSchema(), headers={"Cache-Control": {"schema": {"type": "string"}, "description": "`no-store`"}})
@admin
@can_fail("conflict", "backend_unavailable")
def create_key(body: dict[str, Any]) -> Any:
    """Make a key. Its secret is in this answer and nowhere else. While there is no key, the first one must be an admin's."""
    check(body, services().runner.backends)
    rights = to_rights(body)
    if rights.has_own_rate and (why := services().why_no_own_rate):
        field = "rate_limit_rps" if "rate_limit_rps" in body else "rate_limit_burst"
        raise InvalidRequest(f"{field}: {why}", field=field, issue=why)
    expires_at = to_moment(body["expires_at"]) if body.get("expires_at") else None
    key, secret = services().keys.create(body.get("name"), rights, expires_at)
    response = jsonify({**from_key(key, None), "key": secret, "meta": meta(request_id())})
    response.status_code = 201
    response.headers["Cache-Control"] = "no-store"
    return response


@blp.route("/<name>", methods=["DELETE"])
@blp.response(204)
@admin
@can_fail("not_found", "conflict", "backend_unavailable")
def revoke_key(name: str) -> Any:
    """Revoke a key: its next request is refused, its queued runs are cancelled, and running ones continue. A key of the configuration is removed there."""
    services().keys.revoke(name)
    return Response(status=204)


def check(body: Mapping[str, Any], backends: Mapping[str, Any]) -> None:
    """What the schema cannot tell. Raises InvalidRequest."""
    if body.get("name") and (problem := why_no_name(body["name"])):
        raise InvalidRequest(f"name: {problem}", field="name", issue=problem)
    for index, backend in enumerate(body.get("backends") or ()):
        if backend not in backends:
            hint = suggestion(backend, backends)
            raise InvalidRequest(
                f"backends[{index}]: unknown backend {backend!r}" + (f"; {hint}" if hint else ""),
                field=f"backends[{index}]",
                issue="unknown backend",
            )
    for index, path in enumerate(body.get("workdirs") or ()):
        if not os.path.isabs(path):
            raise InvalidRequest(f"workdirs[{index}]: expected an absolute path", field=f"workdirs[{index}]", issue="not an absolute path")


def from_key(key: Key, last_used_at: int | None) -> dict[str, Any]:
    times = {"created_at": key.created_at, "last_used_at": last_used_at, "expires_at": key.expires_at}
    return {
        "name": key.name,
        **from_rights(key.rights),
        "source": key.source,
        **{name: None if moment is None else to_time(moment) for name, moment in times.items()},
    }
