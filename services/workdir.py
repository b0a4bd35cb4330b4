"""Rules for the folders that an agent may work in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import monotonic

from services.errors import RightMissing, WorkdirNotAllowed

RESOLVED_FOR_S = 2.0
"""How long the resolved path of a configured folder is cached: resolving all of them costs 45 system calls."""
ROOTS_LIMIT = 256
"""Lists of folders, the server's and those of the keys, of which the resolved paths are cached."""


@dataclass(frozen=True, slots=True)
class WorkdirRules:
    """An empty ``allowed`` means everywhere except ``blocked``. Both match whole path components, with symlinks resolved."""

    allowed: Sequence[str] = ()
    blocked: Sequence[str] = ()

    def check(self, workdir: str | None, own: Sequence[str] = ()) -> str:
        """The real path of ``workdir``, or the default folder for None: the first of ``own``, the folders of the caller's key, if it
        has any. Raises WorkdirNotAllowed, RightMissing."""
        if workdir is None and own:
            workdir = os.path.expanduser(own[0])
        if workdir is None:
            default = self.default()
            if not os.path.isdir(default):
                message = "is the default workdir, but is not an existing folder; create it, or set `workdir` in the request"
                raise WorkdirNotAllowed(default, message)
            return default
        if "\0" in workdir:
            raise WorkdirNotAllowed(workdir, "contains a NUL character")
        if not os.path.isabs(workdir):
            raise WorkdirNotAllowed(workdir, "must be an absolute path")
        # Check the rules first: do not reveal whether a folder outside them exists.
        try:
            real = os.path.realpath(workdir)
        except UnicodeEncodeError:  # a lone surrogate, valid in JSON but not in a path
            raise WorkdirNotAllowed(
                workdir.encode("utf-8", "backslashreplace").decode(), "contains a character that cannot be encoded as UTF-8"
            ) from None
        if issue := self._violation(real):
            raise WorkdirNotAllowed(workdir, issue)
        if own and not _is_within(real, own):
            raise RightMissing(
                f"workdir {workdir!r} is outside {', '.join(own)}, where this API key may work", right="workdirs", value=workdir
            )
        if not os.path.exists(real):
            raise WorkdirNotAllowed(workdir, "does not exist")
        if not os.path.isdir(real):
            raise WorkdirNotAllowed(workdir, "is not a directory")
        return real

    def default(self) -> str:
        """The server's working directory if the rules allow it, else the first allowed folder, else the home directory."""
        here = os.getcwd()  # a real path
        if not self._violation(here):
            return here
        return os.path.realpath(self.allowed[0]) if self.allowed else str(Path.home())

    def _violation(self, real: str) -> str | None:
        if _is_within(real, self.blocked):
            return "is in a blocked folder"
        if self.allowed and not _is_within(real, self.allowed):
            return f"is outside {', '.join(self.allowed)}"
        return None


def _is_within(path: str, prefixes: Sequence[str]) -> bool:
    roots = _roots(tuple(prefixes), monotonic() // RESOLVED_FOR_S)
    return f"{path.rstrip('/')}/".startswith(roots)


@lru_cache(maxsize=ROOTS_LIMIT)
def _roots(prefixes: tuple[str, ...], _when: float) -> tuple[str, ...]:
    """The folders, symlinks resolved, each with a trailing slash."""
    return tuple(os.path.realpath(os.path.expanduser(prefix)).rstrip("/") + "/" for prefix in prefixes)
