"""What `clinvk serve` says at its start: where it listens, for whom, with what. Text only."""

from __future__ import annotations

from collections.abc import Iterable

from app.config.schema import Settings
from app.server.shared_state import notes
from app.version import program_version
from services.clis.probe import Availability

INDENT = " " * 12


def opening(settings: Settings, url: str, access: str, files: str | None = None) -> str:
    """The lines that are known at once. ``access`` says who may call; ``files`` what is wrong with the limit of open files."""
    lines = [
        f"clinvk {program_version()} listens on {url}",
        f"  docs      {url}/docs",
        f"  access    {access}",
        f"  config    {config_source(settings)}",
    ]
    if settings.server.workers > 1:
        lines.append(f"  workers   {settings.server.workers}; max_concurrent_runs and max_queued_runs count for each of them")
    if files:
        lines.append(f"  files     {files}")
    lines += [f"  note      {note}" for note in (*settings.warnings, *notes(settings))]
    return "\n".join(lines)


def backend_lines(found: Iterable[Availability], default: str) -> str:
    """One line a backend: its version, or why it is not there."""
    found = list(found)
    width = max((len(item.name) for item in found), default=0)
    lines = []
    for item in found:
        about = (
            f"{item.name:<{width}}  {item.version or 'found'}" if item.available else f"{item.name:<{width}}  not available: {item.reason}"
        )
        about += "; does not look logged in" if item.available and item.logged_in is False else ""
        lines.append(about + (" (default)" if item.name == default else ""))
    return "\n".join(("  backends  " if not index else INDENT) + line for index, line in enumerate(lines))


def config_source(settings: Settings) -> str:
    others = sorted({source for source in settings.sources.values() if source.startswith("CLINVK_")})
    file = settings.config_file or f"defaults (there is no {settings.home}/config.yaml)"
    return ", ".join([file, *others])
