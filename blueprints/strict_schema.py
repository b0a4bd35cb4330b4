"""The schema of every native request and answer: unknown fields are rejected by name."""

from __future__ import annotations

from itertools import islice
from typing import Any

from marshmallow import RAISE, Schema, pre_load

from blueprints.request_fields import ERRORS_LIMIT


class Strict(Schema):
    class Meta:
        unknown = RAISE
        ordered = True

    @pre_load
    def drop_most_unknown(self, data: Any, **_: Any) -> Any:
        """Keep only as many unknown fields as are reported: marshmallow's time per unknown field grows with their number."""
        if not isinstance(data, dict) or len(data) <= len(self.load_fields) + ERRORS_LIMIT:
            return data
        known = {field.data_key or name for name, field in self.load_fields.items()}
        unknown = islice((name for name in data if name not in known), ERRORS_LIMIT)
        return {name: data[name] for name in (*(known & data.keys()), *unknown)}
