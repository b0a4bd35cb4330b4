"""Which folders an agent may be let loose in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import monotonic

from services.errors import WorkdirNotAllowed

LOOKED_UP_FOR_S = 2.0
"""So long a configured folder is taken to lead where it led: following the links of all of them costs 45 system calls."""


@dataclass(frozen=True, slots=True)
class WorkdirRules:
    """``allowed`` empty means everywhere but ``blocked``. Both are compared by whole path components, symlinks resolved."""

    allowed: Sequence[str] = ()
    blocked: Sequence[str] = ()

    def check(self, workdir: str | None) -> str:
        """The real path of ``workdir``, or the default folder. Raises WorkdirNotAllowed, saying what is wrong."""
        if workdir is None:
            default = self.default()
            if not os.path.isdir(default):
                message = "is the default workdir, but is not an existing folder; create it, or set `workdir` in the request"
                raise WorkdirNotAllowed(default, message)
            return default
        if "\0" in workdir:
            raise WorkdirNotAllowed(workdir, "holds a NUL character")
        if not os.path.isabs(workdir):
            raise WorkdirNotAllowed(workdir, "must be an absolute path")
        # Whether a folder exists is told only about folders that may be used.
        try:
            real = os.path.realpath(workdir)
        except UnicodeEncodeError:  # a lone surrogate: JSON may hold one, a path cannot
            raise WorkdirNotAllowed(
                workdir.encode("utf-8", "backslashreplace").decode(), "holds a character that UTF-8 does not have"
            ) from None
        if issue := self._objection(real):
            raise WorkdirNotAllowed(workdir, issue)
        if not os.path.exists(real):
            raise WorkdirNotAllowed(workdir, "does not exist")
        if not os.path.isdir(real):
            raise WorkdirNotAllowed(workdir, "is not a directory")
        return real

    def default(self) -> str:
        """The server's own working directory where the rules allow it, else the first folder that they allow, else home."""
        here = os.getcwd()  # a real path
        if not self._objection(here):
            return here
        return os.path.realpath(self.allowed[0]) if self.allowed else str(Path.home())

    def _objection(self, real: str) -> str | None:
        if _is_within(real, self.blocked):
            return "is in a blocked folder"
        if self.allowed and not _is_within(real, self.allowed):
            return f"is outside {', '.join(self.allowed)}"
        return None


def _is_within(path: str, prefixes: Sequence[str]) -> bool:
    roots = _roots(tuple(prefixes), monotonic() // LOOKED_UP_FOR_S)
    return f"{path.rstrip('/')}/".startswith(roots)


@lru_cache(maxsize=8)
def _roots(prefixes: tuple[str, ...], _when: float) -> tuple[str, ...]:
    """The folders, links followed, each with a slash at its end."""
    return tuple(os.path.realpath(os.path.expanduser(prefix)).rstrip("/") + "/" for prefix in prefixes)
