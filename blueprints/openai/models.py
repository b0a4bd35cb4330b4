"""The list of models in OpenAI's form. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from services.models import ListedModel

STARTED_AT = int(time.time())
"""The server's start time, used as ``created`` of models whose CLI is not installed."""

Since = Callable[[str], int | None]
"""Backend name → Unix time since when its CLI has been available (`Availability.since`)."""


def to_model(model: ListedModel, since: Since) -> dict[str, Any]:
    """``created`` must be a number. No CLI reports one, so it is the time since when the CLI has been available."""
    return {"id": model.id, "object": "model", "created": since(model.backend) or STARTED_AT, "owned_by": model.backend}


def to_model_list(models: Iterable[ListedModel], since: Since, *, for_codex: bool = False) -> dict[str, Any]:
    """The available models. Codex (``?client_version=``) reads ``models`` instead, which holds usage metadata in a format of its
    own. With an empty list it uses its built-in metadata."""
    body: dict[str, Any] = {"object": "list", "data": [to_model(model, since) for model in models if model.is_available]}
    if for_codex:
        body["models"] = []
    return body
