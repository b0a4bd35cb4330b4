"""The backends that are built in, by name, and the other ways in which one of them can be spoken to."""

from __future__ import annotations

from collections.abc import Mapping

from services.clis.claude import spec as claude
from services.clis.codex import spec as codex
from services.clis.demo import spec as demo
from services.clis.gemini import spec as gemini
from services.clis.spec import BackendSpec

BUILT_IN: Mapping[str, BackendSpec] = {spec.name: spec for spec in (claude.SPEC, codex.SPEC, gemini.SPEC, demo.SPEC)}

DRIVERS: Mapping[str, Mapping[str, BackendSpec]] = {"codex": {"app-server": codex.SPEC, "exec": codex.EXEC}}
"""What ``backends.<name>.driver`` may say where there is a choice."""
