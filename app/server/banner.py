"""What `clinvk serve` prints at startup: addresses, access, configuration, backends. Text only."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from app.config.schema import Settings
from app.server.shared_state import notes
from app.version import program_version
from services.access.key import Key
from services.clis.probe import Availability
from services.clis.spec import BackendSpec

INDENT = " " * 12


def opening(
    settings: Settings, url: str, access: str, files: str | None = None, stored: Sequence[Key] = (), notes_on_keys: Sequence[str] = ()
) -> str:
    """The lines known at startup. ``access``: who has access; ``files``: a problem with the open file limit; ``stored``: the store's keys."""
    lines = [
        f"clinvk {program_version()} listens on {url}",
        f"  openai    {url}/openai/v1",
        f"  anthropic {url}/anthropic",
        f"  docs      {url}/docs",
        f"  access    {access}",
        f"  config    {config_source(settings)}",
        f'  try       {command()} prompt -b demo "Say hello"     (Ctrl-C stops the server)',
    ]
    if settings.server.workers > 1:
        lines.append(f"  workers   {settings.server.workers}; max_concurrent_runs and max_queued_runs count for each of them")
    if files:
        lines.append(f"  files     {files}")
    lines += [f"  note      {note}" for note in (*settings.warnings, *notes(settings, stored), *notes_on_keys)]
    return "\n".join(lines)


def backend_lines(specs: Sequence[BackendSpec], found: Sequence[Availability], default: str) -> str:
    """One line per backend: its version and its agent's permissions, or why it is unavailable."""
    width = max((len(item.name) for item in found), default=0)
    lines = []
    for spec, item in zip(specs, found, strict=True):
        about = (
            f"{item.name:<{width}}  {item.version or 'found'}" if item.available else f"{item.name:<{width}}  not available: {item.reason}"
        )
        if item.available:
            about += f"; {modes_of(spec)}" if modes_of(spec) else ""
            about += f"; probably not logged in: {spec.login_hint}" if item.logged_in is False else ""
        lines.append(about + (" (default)" if item.name == default else ""))
    return "\n".join(("  backends  " if not index else INDENT) + line for index, line in enumerate(lines))


def modes_of(spec: BackendSpec) -> str:
    """The default approval and sandbox modes; empty for a CLI without such options."""
    names = [name for name in ("approval_mode", "sandbox_mode") if spec.honours(name)]
    return ", ".join(f"{name} {spec.defaults.get(name, 'default')}" for name in names)


def command() -> str:
    """How the reader can run `clinvk`: by its name if it is on the PATH, else by the path of this installation."""
    return "clinvk" if shutil.which("clinvk") else os.path.relpath(os.path.join(os.path.dirname(sys.executable), "clinvk"))


def config_source(settings: Settings) -> str:
    others = sorted({source for source in settings.sources.values() if source.startswith("CLINVK_")})
    file = settings.config_file or f"defaults (there is no {settings.home}/config.yaml)"
    return ", ".join([file, *others])
