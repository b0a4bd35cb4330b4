"""Schemas of bodies that may have many fields, of which a client sends a few."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import marshmallow as ma


class SparseSchema(ma.Schema):
    """Skips the fields that are absent and have no default. marshmallow would deserialize each of them into nothing."""

    @cached_property
    def _skipped(self) -> frozenset[str]:
        return frozenset(name for name, field in self.load_fields.items() if not field.required and field.load_default is ma.missing)

    def load(self, data: Any, **options: Any) -> Any:
        return super().load(data, **{"partial": self._skipped, **options})
