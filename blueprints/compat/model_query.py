"""Query parameters of the model lists of both compatible surfaces."""

from __future__ import annotations

from marshmallow import EXCLUDE, Schema, fields


class ModelQuerySchema(Schema):
    class Meta:
        unknown = EXCLUDE

    all = fields.Boolean(load_default=False, metadata={"description": "Include aliases and the demo backend"})
