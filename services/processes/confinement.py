"""Confinement of a run: resource limits, enforced by its supervisor, and its sandbox.

Passed in the environment of the invocation as `VARIABLE`, so every way of starting a process confines it; the spawner
removes the variable before the CLI starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, replace

VARIABLE = "CLINVK_CONFINEMENT"
BUBBLEWRAP = "bubblewrap"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """None: no limit. All except ``file_bytes`` apply to the whole process tree."""

    cpu_secs: int | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    file_bytes: int | None = None

    def given(self) -> dict[str, int]:
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    limits: RunLimits = RunLimits()
    sandbox: str | None = None
    """`BUBBLEWRAP`, or None."""
    writable: tuple[str, ...] = ()
    """Folders that stay writable besides the workdir and the run's folder. Before `resolved` in the spec's syntax:
    ``$VARIABLE`` or ``$VARIABLE/below``, with the default for an unset variable after ``|``."""
    hidden: tuple[str, ...] = ()
    """Files and folders that appear empty in the sandbox."""
    run_dir: str = ""
    """The run's own folder, writable too."""

    def __bool__(self) -> bool:
        return bool(self.sandbox or self.limits.given())

    def resolved(self, env: Mapping[str, str]) -> Confinement:
        """``writable`` expanded with the CLI's environment."""
        return replace(self, writable=tuple(path for entry in self.writable if (path := _resolve(entry, env))))

    def put(self, env: MutableMapping[str, str]) -> None:
        if self:
            env[VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def take(cls, env: MutableMapping[str, str]) -> Confinement:
        """Remove and return what `put` stored."""
        text = env.pop(VARIABLE, None)
        if not text:
            return cls()
        fields = json.loads(text)
        limits, writable, hidden = RunLimits(**fields["limits"]), tuple(fields["writable"]), tuple(fields["hidden"])
        return cls(limits=limits, sandbox=fields["sandbox"], writable=writable, hidden=hidden, run_dir=fields["run_dir"])


def _resolve(entry: str, env: Mapping[str, str]) -> str:
    variable, _, default = entry.rpartition("|")
    name, slash, below = variable.removeprefix("$").partition("/")
    if value := env.get(name):
        return value + slash + below
    home = env.get("HOME", "")
    return home + default[1:] if default.startswith("~/") and home else default if os.path.isabs(default) else ""
