"""What the compose file and the Kubernetes manifests say, in the form that the tests compare."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.parts.server import ROOT

DOCKER = ROOT / "deploy" / "docker"
KUBERNETES = ROOT / "deploy" / "kubernetes"
COMPOSE = DOCKER / "compose.yaml"

VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<more>[^}]*))?\}")
"""`$$` is a dollar sign, `${A:-b}` has a default, `${A:?why}` must be set."""


def kubernetes_objects() -> dict[str, dict[str, Any]]:
    """Every object by its kind and name (`Deployment/clinvk`)."""
    found: dict[str, dict[str, Any]] = {}
    for path in KUBERNETES.glob("*.yaml"):
        if path.name != "kustomization.yaml":
            for one in yaml.safe_load_all(path.read_text()):
                found[f"{one['kind']}/{one['metadata']['name']}"] = one
    return found


def compose(environ: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with its variables filled in. Raises KeyError for one that must be set and is not."""

    def fill(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        value = environ.get(match["name"]) or (match["more"] if match["kind"] == "-" else "")
        if not value and match["kind"] == "?":
            raise KeyError(match["name"])
        return value

    def filled(value: Any) -> Any:
        match value:
            case str():
                return VARIABLE.sub(fill, value)
            case list():
                return [filled(item) for item in value]
            case dict():
                return {key: filled(item) for key, item in value.items()}
        return value

    loaded: dict[str, Any] = filled(yaml.safe_load(COMPOSE.read_text()))
    return loaded


def seconds(text: str) -> float:
    """``50s``, ``1m30s``."""
    return sum(float(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))
