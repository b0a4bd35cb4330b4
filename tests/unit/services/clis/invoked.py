"""An invocation without the rest of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.clis.command import invoke
from services.clis.spec import BackendSpec, Invocation
from services.requests import RunRequest

ENVIRON = {"PATH": "/usr/bin", "HOME": "/home/nobody", "CLINVK_API_KEY": "secret"}


def invoked(
    spec: BackendSpec, prompt: str = "hi", *, environ: Mapping[str, str] = ENVIRON, run_dir: str = "/run/clinvk-1", **request: Any
) -> Invocation:
    return invoke(spec, RunRequest(prompt=prompt, backend=spec.name, **request), cwd="/work", environ=environ, run_dir=run_dir)


def added(spec: BackendSpec, **options: Any) -> list[str]:
    """What the options put into the argv, beyond what every run has."""
    plain, asked = list(invoked(spec).argv), list(invoked(spec, options=options).argv)
    return [part for part in asked if part not in plain]


def variables(spec: BackendSpec, **options: Any) -> dict[str, str]:
    plain, asked = invoked(spec).env, invoked(spec, options=options).env
    return {name: value for name, value in asked.items() if plain.get(name) != value}
