"""A home of the run's own for a CLI that takes what a run needs from its settings file alone. Reads the real home, writes nothing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

HOME = "home"
"""Where in a run's folder its private home is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateHome:
    """A folder of the run's own that stands for the CLI's home. What is in the real one is linked into it (log-ins,
    extensions); the real settings are copied, and the run's fields are added to the copy."""

    variable: str
    """Names the folder in the CLI's environment; where it is unset, the real home is ``HOME``."""
    folder: str
    """The CLI's own folder in its home (``.gemini``)."""
    settings: str
    """The settings file in it, JSON."""
    own: tuple[str, ...] = ()
    """What every run has for itself: never linked. Patterns as of fnmatch."""
    sessions: tuple[str, ...] = ()
    """Folders where the CLI keeps its sessions. An ephemeral run has its own, which go with it."""

    def real(self, env: Mapping[str, str]) -> str:
        return os.path.join(env.get(self.variable) or env.get("HOME", "/"), self.folder)

    def shared_folders(self, real: str, *, is_ephemeral: bool) -> list[str]:
        """What must be there before it can be linked."""
        return [] if is_ephemeral else [os.path.join(real, name) for name in self.sessions]

    def linked(self, real: str, *, is_ephemeral: bool) -> list[str]:
        own = (self.settings, *self.own)
        names = {name for name in (*_names_in(real), *self.sessions) if not any(fnmatchcase(name, pattern) for pattern in own)}
        return sorted(names - {*self.sessions} if is_ephemeral else names)


COMMENTS = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


def settings_with(path: str, fields: Mapping[str, Any]) -> str:
    """The settings at ``path`` with ``fields`` added. Settings that are no JSON stay as they are: the CLI will say so."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return json.dumps(fields)
    try:
        settings = json.loads(COMMENTS.sub(lambda found: found[1] or " ", text))
    except (ValueError, RecursionError):
        return text
    return json.dumps(merged(settings, fields)) if isinstance(settings, dict) else text


def merged(settings: Any, fields: Any) -> Any:
    """``fields`` on top of ``settings``: groups are joined, lists are put one after the other."""
    match settings, fields:
        case dict(), dict():
            return {**settings, **{key: merged(settings[key], value) if key in settings else value for key, value in fields.items()}}
        case list(), list():
            return [*settings, *fields]
    return fields


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
