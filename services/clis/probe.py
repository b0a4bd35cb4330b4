"""Is a backend's CLI there, which version is it, does it look logged in? Looking is instant; versions are asked in the background.

"Available" means that the program exists and can be started. Being logged in is a guess from variables and files (a keychain
is neither), so it is told but never a reason to refuse a run.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf
from threading import Lock, Thread
from time import monotonic

from services.clis.environment import cli_environment
from services.clis.spec import BackendSpec
from services.redaction import redact

FOUND_TTL_S = 60.0
MISSING_TTL_S = 2.0
"""A CLI that was just installed is seen at once."""
VERSION_TIMEOUT_S = 20.0
"""Node CLIs need 1 to 2 s; on a cold disk now and then far more."""
RETRY_S = 60.0
"""After so long a program that gave no answer, or could not be started, is asked again."""
VERSION_OUTPUT_BYTES = 4_096
VERSION = re.compile(r"\d+(\.\d+)+[\w.+-]*")

_Key = tuple[object, ...]

CANNOT_START = (126, 127)
"""Exit codes of a shell or `env` that found no program or interpreter to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    name: str
    available: bool
    reason: str | None = None
    """Why it is not available, and what to do."""
    path: str | None = None
    version: str | None = None
    """None while it has not been asked, or where the CLI does not tell."""
    version_warnings: tuple[str, ...] = ()
    """What speaks against this version: too old, a known fault, newer than what was tested."""
    logged_in: bool | None = None
    """None where the backend needs no log-in, or nothing is known of it."""
    since: int | None = None
    """When the program came to where it is, in seconds since the epoch. Not its file's own time: npm sets that to 1985."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What ``--version`` came to."""

    version: str | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None
    """Why the program cannot be started, though its file is there."""
    until: float = inf
    """On the monotonic clock. The file may stay the same while what is missing beside it comes."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    spec: BackendSpec
    found: Availability
    key: _Key
    """What the version belongs to; empty where there is none to ask for."""


class Prober:
    """Looks at backends with the environment that their CLIs get. One for the whole process; safe to share."""

    def __init__(self, environ: Mapping[str, str], report: Callable[[str], object] = lambda _: None) -> None:
        """``report`` gets every warning about a version once, when the version becomes known."""
        self._environ = environ
        self._report = report
        self._looks: dict[str, _Look] = {}
        self._answers: dict[_Key, Answer] = {}
        self._asking: dict[_Key, Thread] = {}
        self._lock = Lock()

    def availability(self, spec: BackendSpec) -> Availability:
        """What is known now. Never waits; a version that is not known yet is asked for meanwhile."""
        look = self._look(spec)
        if not look.key:
            return look.found
        answer = self._answers.get(look.key)
        if answer is None or answer.until < monotonic():
            self._ask(look)
        if answer and answer.error:
            return replace(look.found, available=False, reason=redact(answer.error))
        return replace(look.found, version=answer.version, version_warnings=answer.warnings) if answer else look.found

    def with_versions(self, specs: Iterable[BackendSpec], timeout_s: float = VERSION_TIMEOUT_S) -> list[Availability]:
        """The same for several, waiting for their versions, all at once and together no longer than ``timeout_s``."""
        specs = list(specs)
        deadline = monotonic() + timeout_s
        for spec in specs:
            self.availability(spec)
        for thread in list(self._asking.values()):
            thread.join(max(0.0, deadline - monotonic()))
        return [self.availability(spec) for spec in specs]

    def _look(self, spec: BackendSpec) -> _Look:
        last = self._looks.get(spec.name)
        if last and last.spec is spec and monotonic() - last.at < (FOUND_TTL_S if last.key else MISSING_TTL_S):
            return last
        found = look(spec, self._environ)
        key = _key(spec, found.path) if found.path and spec.version_args else ()
        self._looks[spec.name] = _Look(monotonic(), spec, found, key)
        return self._looks[spec.name]

    def _ask(self, look: _Look) -> None:
        key, path = look.key, look.found.path or ""

        def ask() -> None:
            answer = self._answers[key] = ask_version(look.spec, path, self._environ)
            for warning in answer.warnings:
                self._report(f"{look.spec.name}: {warning}")
            self._asking.pop(key, None)

        with self._lock:
            if key not in self._asking:
                self._asking[key] = Thread(target=ask, name=f"version of {look.spec.name}", daemon=True)
                self._asking[key].start()


def look(spec: BackendSpec, environ: Mapping[str, str]) -> Availability:
    """What files and variables tell; starts nothing."""
    env = cli_environment(spec, environ) | dict(spec.env)
    if not spec.enabled:
        return Availability(name=spec.name, available=False, reason="switched off in the configuration")
    path = shutil.which(spec.command[0], path=env.get("PATH", os.defpath))
    if path is None:
        reason = f"{spec.command[0]!r} was not found" + ("" if "/" in spec.command[0] else " on PATH")
        return Availability(name=spec.name, available=False, reason=f"{reason}; {spec.install_hint}" if spec.install_hint else reason)
    return Availability(name=spec.name, available=True, path=path, logged_in=_looks_logged_in(spec, env), since=_since(path))


def ask_version(spec: BackendSpec, path: str, environ: Mapping[str, str], timeout_s: float = VERSION_TIMEOUT_S) -> Answer:
    """Run the CLI's version command in a clean environment, in no project, as a process group that ends with it."""
    env = cli_environment(spec, environ) | dict(spec.env)
    command = [path, *spec.command[1:], *spec.version_args]
    try:
        with _starting:  # the end of the program waits, so that it finds every group
            process = subprocess.Popen(
                command,
                cwd="/",
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,  # of this session, in which whoever looks for processes left behind looks for none
            )
            _asked.add(process.pid)
    except OSError as error:
        return Answer(error=f"{path} cannot be started: {error.strerror}", until=monotonic() + RETRY_S)
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return Answer(until=monotonic() + RETRY_S)
        finally:
            _asked.discard(process.pid)
            if process.returncode is None:
                _end(process.pid)
    text = output[:VERSION_OUTPUT_BYTES].decode(errors="replace").strip()
    if process.returncode in CANNOT_START:
        words = text.splitlines()[0] if text else f"exit code {process.returncode}"
        return Answer(error=f"{path} cannot be started: {words}", until=monotonic() + RETRY_S)
    match = VERSION.search(text) if process.returncode == 0 else None
    if match is None:
        return Answer()
    return Answer(version=match[0], warnings=spec.versions.warnings(match[0]) if spec.versions else ())


_asked: set[int] = set()
"""The groups that are running. They are asked by daemon threads, which nobody waits for at the end of the program."""
_starting = Lock()


@atexit.register
def _end_all() -> None:
    """Ends the groups; keeps the lock, so that no other begins."""
    _starting.acquire(timeout=1.0)  # a process that was forked while it was held will never get it
    for group in tuple(_asked):
        _end(group)


def _end(group: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, signal.SIGKILL)


def _looks_logged_in(spec: BackendSpec, env: Mapping[str, str]) -> bool | None:
    if not spec.credentials:
        return None
    return any(os.path.exists(_file_of(spec, sign, env)) if "/" in sign else bool(env.get(sign)) for sign in spec.credentials)


def _file_of(spec: BackendSpec, sign: str, env: Mapping[str, str]) -> str:
    files = spec.session_files
    if files and sign.startswith(own := f"~/{files.folder}/"):
        return os.path.join(files.root(env), sign.removeprefix(own))
    return env.get("HOME", "") + sign[1:] if sign.startswith("~/") else sign


def _since(path: str) -> int | None:
    try:
        return int(os.stat(path).st_ctime)
    except OSError:  # gone a moment ago
        return None


def _key(spec: BackendSpec, path: str) -> _Key:
    """What a version belongs to: an update of the CLI replaces the file behind the link, and changes this."""
    real = os.path.realpath(path)
    try:
        facts = os.stat(real)
    except OSError:
        return (spec.command, real)
    return (spec.command, real, facts.st_mtime_ns, facts.st_size)
