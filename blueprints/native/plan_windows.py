"""`/api/v1/usage/plans`: how much of their subscriptions the CLIs have used."""

from __future__ import annotations

from typing import Any

from flask import jsonify
from marshmallow import fields, validate

from blueprints.context import services
from blueprints.current_request import request_id, rights
from blueprints.native.schemas import MetaSchema, Strict
from blueprints.native.translate import meta
from blueprints.times import to_time
from blueprints.validation import Blueprint
from services.plans.windows import Plan

blp = Blueprint("plans", __name__, url_prefix="/api/v1", description="Windows of the CLIs' subscriptions")

MICROSECONDS = 1_000_000


class PlanWindowSchema(Strict):
    name = fields.String(required=True, metadata={"example": "five_hour"})
    used = fields.Float(allow_none=True, required=True, validate=validate.Range(0, 1), metadata={"description": "Share of the window"})
    resets_at = fields.String(allow_none=True, required=True)
    status = fields.String(allow_none=True, required=True, metadata={"description": "`rejected`: its limit is reached"})


class PlanSchema(Strict):
    backend = fields.String(required=True)
    windows = fields.List(fields.Nested(PlanWindowSchema), required=True)
    observed_at = fields.String(required=True, metadata={"description": "When the CLI last said anything of them"})


class PlansSchema(Strict):
    plans = fields.List(fields.Nested(PlanSchema), required=True)
    meta = fields.Nested(MetaSchema, required=True)


@blp.route("/usage/plans", methods=["GET"])
@blp.response(200, PlansSchema())
def list_plans() -> Any:
    """The windows of each backend's subscription, as its CLI last reported them; those that have been reset since are left out."""
    runner, allowed = services().runner, rights().backends
    seen = [name for name, spec in runner.backends.items() if spec.enabled and (not allowed or name in allowed)]
    plans = [to_plan(plan) for plan in runner.plans.plans() if plan.backend in seen]
    return jsonify({"plans": plans, "meta": meta(request_id())})


def to_plan(plan: Plan) -> dict[str, Any]:
    windows = [
        {
            "name": window.name,
            "used": window.used,
            "resets_at": None if window.resets_at is None else to_time(window.resets_at * MICROSECONDS),
            "status": window.status,
        }
        for window in plan.windows
    ]
    return {"backend": plan.backend, "windows": windows, "observed_at": to_time(plan.observed_at)}
