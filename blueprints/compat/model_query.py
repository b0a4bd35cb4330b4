"""The query of a list of models, on both surfaces."""

from __future__ import annotations

from marshmallow import EXCLUDE, Schema, fields


class ModelQuerySchema(Schema):
    class Meta:
        unknown = EXCLUDE

    all = fields.Boolean(load_default=False, metadata={"description": "Also the aliases, and the demo backend"})
