"""What a run may use, and what it may touch: limits that its supervisor holds it to, and the sandbox that it is started in.

Travels in the environment of what is started, as `VARIABLE`, so that whatever starts a process by an invocation's
environment confines it; the spawner takes it out before the CLI sees it.
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
    """None: no limit of ours. All but ``file_bytes`` count for the whole tree of processes."""

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
    """Folders that the sandbox leaves writable besides the workdir and the run's own; at first as a spec writes them:
    ``$VARIABLE`` or ``$VARIABLE/below`` where that is set, the part behind ``|`` where it is not."""
    hidden: tuple[str, ...] = ()
    """Files and folders that are empty in the sandbox."""
    run_dir: str = ""
    """The run's own folder, writable as well."""

    def __bool__(self) -> bool:
        return bool(self.sandbox or self.limits.given())

    def resolved(self, env: Mapping[str, str]) -> Confinement:
        """With the paths of ``writable`` as a CLI with this environment would find them."""
        return replace(self, writable=tuple(path for entry in self.writable if (path := _resolve(entry, env))))

    def put(self, env: MutableMapping[str, str]) -> None:
        if self:
            env[VARIABLE] = json.dumps(asdict(self))

    @classmethod
    def take(cls, env: MutableMapping[str, str]) -> Confinement:
        """What `put` has put there; it is there no longer."""
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
