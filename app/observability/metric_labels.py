"""Label values from sets with a bound, so that no caller can make series without end."""

from __future__ import annotations

import re
from functools import cache

from app.observability.metrics import OVERFLOW, UNMATCHED
from services.clis.spec import BackendSpec

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
PARAMETER = re.compile(r"<(?:[^:>]+:)?([^>]+)>")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}")
LEARNED_LIMIT = 32
"""Model names of one backend that are not in the configuration."""


def method_label(method: str) -> str:
    return method if method in METHODS else OVERFLOW


@cache
def route_label(rule: str) -> str:
    """Flask's ``/sessions/<id>`` as OpenAPI writes it. There are as many rules as routes."""
    return PARAMETER.sub(r"{\1}", rule) if rule else UNMATCHED


class ModelLabels:
    """The models that get a label of their own: those of the configuration, and the first few others of runs that went well.

    A CLI repeats whatever name it was given, and the vendor refuses what is no model; so a run's success vouches for its name.
    """

    def __init__(self) -> None:
        self._learned: dict[str, set[str]] = {}

    def label(self, spec: BackendSpec, model: str | None, *, is_vouched: bool) -> str:
        if not model:
            return "default"
        if model in spec.models or model in spec.aliases.values() or model == spec.defaults.get("model"):
            return model
        learned = self._learned.setdefault(spec.name, set())
        if is_vouched and len(learned) < LEARNED_LIMIT and MODEL.fullmatch(model):
            learned.add(model)
        return model if model in learned else OVERFLOW
