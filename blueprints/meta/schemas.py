"""Schema of the health response."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from blueprints.native.schemas import MetaSchema


class BackendHealthSchema(Schema):
    name = fields.String(required=True)
    available = fields.Boolean(required=True)
    version = fields.String(allow_none=True, metadata={"description": "null until it is known"})
    reason = fields.String(allow_none=True, metadata={"description": "Why it is not available, and what to do"})
    is_required = fields.Boolean(required=True, metadata={"description": "Whether the status is `degraded` while it is not available"})


class SessionStoreHealthSchema(Schema):
    status = fields.String(required=True, validate=validate.OneOf(("ok", "unavailable")))
    count = fields.Integer(required=True, allow_none=True, metadata={"description": "Number of sessions"})


class SpawnerHealthSchema(Schema):
    status = fields.String(
        required=True,
        validate=validate.OneOf(("ok", "replacing")),
        metadata={"description": "`replacing`: the process that starts CLIs exited and is being replaced"},
    )
    replacements = fields.Integer(required=True, metadata={"description": "Replacements since the worker's start"})


class HealthSchema(Schema):
    status = fields.String(
        required=True,
        validate=validate.OneOf(("ok", "degraded", "unhealthy")),
        metadata={
            "description": "`degraded`: the default backend or one named in the configuration is unavailable, or the spawner is being replaced; `unhealthy`: the session store is unavailable (HTTP 503)"
        },
    )
    version = fields.String(metadata={"description": "This and the following fields require a valid key, if keys are configured"})
    uptime = fields.String(metadata={"example": "2m31s"})
    uptime_millis = fields.Integer()
    backends = fields.List(fields.Nested(BackendHealthSchema()))
    sessions = fields.Nested(SessionStoreHealthSchema())
    spawner = fields.Nested(SpawnerHealthSchema())
    meta = fields.Nested(MetaSchema())
