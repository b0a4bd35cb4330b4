"""The list of models in OpenAI's form. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from services.models import ListedModel


def to_model(model: ListedModel) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": 0, "owned_by": model.backend}


def to_model_list(models: Iterable[ListedModel], *, for_codex: bool = False) -> dict[str, Any]:
    """Those that can be asked now. Codex (``?client_version=``) reads ``models`` instead, in a form of its own that says how it is
    to use each; an empty list leaves it to what it knows itself."""
    told: dict[str, Any] = {"object": "list", "data": [to_model(model) for model in models if model.is_available]}
    if for_codex:
        told["models"] = []
    return told
