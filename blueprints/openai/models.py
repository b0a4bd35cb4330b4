"""The list of models in OpenAI's form. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from services.models import ListedModel

STARTED_AT = int(time.time())
"""The server's start: since when it knows a model whose program is not there."""

Since = Callable[[str], int | None]
"""Name of a backend → since when its program is there (`Availability.since`)."""


def to_model(model: ListedModel, since: Since) -> dict[str, Any]:
    """``created`` must be a number, and no CLI tells one of its models: it is since when this server can ask it."""
    return {"id": model.id, "object": "model", "created": since(model.backend) or STARTED_AT, "owned_by": model.backend}


def to_model_list(models: Iterable[ListedModel], since: Since, *, for_codex: bool = False) -> dict[str, Any]:
    """Those that can be asked now. Codex (``?client_version=``) reads ``models`` instead, in a form of its own that says how it is
    to use each; an empty list leaves it to what it knows itself."""
    told: dict[str, Any] = {"object": "list", "data": [to_model(model, since) for model in models if model.is_available]}
    if for_codex:
        told["models"] = []
    return told
