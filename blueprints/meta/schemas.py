"""The shape of the health answer."""

from __future__ import annotations

from marshmallow import Schema, fields, validate

from blueprints.native.schemas import MetaSchema


class BackendHealthSchema(Schema):
    name = fields.String(required=True)
    available = fields.Boolean(required=True)
    version = fields.String(allow_none=True, metadata={"description": "null while it is not known"})


class SessionStoreHealthSchema(Schema):
    status = fields.String(required=True, validate=validate.OneOf(("ok", "unavailable")))
    count = fields.Integer(required=True, allow_none=True, metadata={"description": "How many sessions there are"})


class SpawnerHealthSchema(Schema):
    status = fields.String(
        required=True,
        validate=validate.OneOf(("ok", "replacing")),
        metadata={"description": "`replacing`: the process that starts CLIs has ended, and another one is being started"},
    )
    replacements = fields.Integer(required=True, metadata={"description": "How often that was so since the worker's start"})


class HealthSchema(Schema):
    status = fields.String(
        required=True,
        validate=validate.OneOf(("ok", "degraded", "unhealthy")),
        metadata={
            "description": "`degraded`: the default backend, or one that the configuration names, is not available, or the spawner is being replaced; `unhealthy`: the session store cannot be used (HTTP 503)"
        },
    )
    version = fields.String(metadata={"description": "This and what follows: with a valid key, or where no keys are configured"})
    uptime = fields.String(metadata={"example": "2m31s"})
    uptime_millis = fields.Integer()
    backends = fields.List(fields.Nested(BackendHealthSchema()))
    sessions = fields.Nested(SessionStoreHealthSchema())
    spawner = fields.Nested(SpawnerHealthSchema())
    meta = fields.Nested(MetaSchema())
