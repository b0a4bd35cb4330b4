"""Turns the operator's settings into backend specs. Nothing below `app/` reads a setting."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from app.accounts import Refused, account_of, chain_problems
from app.config.problems import Problem, SettingsError, did_you_mean
from app.config.schema import BackendSettings, Settings, UnifiedFlags
from services.clis.custom import declare
from services.clis.registry import BUILT_IN, DRIVERS
from services.clis.spec import BackendSpec
from services.clis.warmth import WarmLimits
from services.errors import InvalidRequest
from services.processes.bubblewrap import unavailable_reason
from services.processes.confinement import BUBBLEWRAP, Confinement, RunLimits

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""A backend's name is the first part of a model name (`name/model`) and of metric labels."""


def database_url(settings: Settings) -> URL:
    """The URL of the session store. Raises SettingsError."""
    from services.store.db import to_url  # not in the parent process, which opens no database

    key = "session.database_url"
    try:
        return to_url(settings.session.database_url, settings.home)
    except ValueError as error:
        raise SettingsError([Problem(settings.source_of(key), key, str(error))]) from None


def check_database(settings: Settings) -> None:
    """Validate the URL of the session store without connecting. Raises SettingsError."""
    if settings.session.database_url:
        database_url(settings)


def build_backends(settings: Settings) -> dict[str, BackendSpec]:
    """Every backend by name, built-in ones first. Raises SettingsError for an unknown or invalid backend."""
    specs: dict[str, BackendSpec] = {}
    problems: list[Problem] = []

    def report(key: str, message: str) -> None:
        problems.append(Problem(settings.source_of(key), key, message))

    for name in [*BUILT_IN, *(name for name in settings.backends if name not in BUILT_IN)]:
        try:
            first, chosen = account_of(settings, name)
            spec = _merge(replace(_facts(first, chosen), name=_checked_name(name)), chosen, settings.unified_flags)
            sandboxed = _sandboxed(spec, chosen, settings)
            specs[name] = replace(spec, confinement=_confinement(sandboxed, chosen, settings), sandboxed=sandboxed)
        except Refused as refused:
            report(f"backends.{name}{refused.key}", refused.message)
    if not problems:
        for key, message in chain_problems(specs):
            report(f"backends.{key}", message)
    for message in _default_backend(settings, specs):
        report("default_backend", message)
    for name, spec in specs.items():
        if spec.enabled and spec.confinement.sandbox and (reason := unavailable_reason()):
            key = f"backends.{name}.sandbox.kind"
            report(key if settings.source_of(key) else "server.sandbox.kind", reason)
    if problems:
        raise SettingsError(problems)
    return specs


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise Refused("", "expected a name of small letters, digits, '.', '_' and '-', starting with a letter or digit (at most 63)")
    return name


def _facts(name: str, chosen: BackendSettings) -> BackendSpec:
    """The CLI's spec, before the operator's settings are applied."""
    if name in BUILT_IN:
        if chosen.custom is not None:
            raise Refused(".custom", f"{name!r} is built in and cannot be redefined; choose another name")
        return _spoken_to(name, chosen)
    _checked_name(name)
    if chosen.custom is None and chosen.command is None:
        hint = did_you_mean(name, BUILT_IN)
        raise Refused(
            "",
            f"unknown backend; {hint}{' or ' if hint.endswith('?') else '; '}declare it with `command:` and `custom:`, or another account with `like:`",
        )
    if chosen.driver is not None:
        raise Refused(".driver", f"{name!r} has only one driver")
    try:
        return declare(name, _without_version(chosen) | (chosen.custom or {}))
    except InvalidRequest as error:
        key = f".custom.{error.field}" if error.field else ".custom"
        raise Refused(key, error.message.removeprefix(f"{error.field}: ")) from None


def _without_version(chosen: BackendSettings) -> dict[str, Any]:
    """A ``--version`` appended to `sh -c …` or `run model` is not safe, so the version is probed only if the declaration says how."""
    words = chosen.command if isinstance(chosen.command, list) else (chosen.command or "").split()
    return {"version_args": []} if len(words) > 1 else {}


def _spoken_to(name: str, chosen: BackendSettings) -> BackendSpec:
    """A built-in backend with its driver, which some let the operator choose."""
    drivers = DRIVERS.get(name, {})
    if chosen.driver is None:
        return BUILT_IN[name]
    if chosen.driver not in drivers:
        hint = did_you_mean(chosen.driver, drivers) or f"{name!r} has only one driver"
        raise Refused(".driver", f"unknown driver {chosen.driver!r}; {hint}")
    return drivers[chosen.driver]


def _merge(spec: BackendSpec, chosen: BackendSettings, unified: UnifiedFlags) -> BackendSpec:
    aliases = {**spec.aliases, **chosen.aliases}
    return replace(
        spec,
        enabled=chosen.enabled,
        command=_command(spec, chosen),
        aliases=aliases,
        models=tuple(dict.fromkeys((*spec.models, *chosen.models))),
        claims=spec.claims if chosen.claims is None else tuple(chosen.claims),
        claims_listed=chosen.claims != [],
        allowed_extra={**spec.allowed_extra, **chosen.allowed_extra},
        defaults={**spec.defaults, **dict(_defaults(chosen, unified, aliases))},
        extra_args=(*spec.extra_args, *chosen.extra_flags),
        env={**spec.env, **chosen.env},
        pass_env=(*spec.pass_env, *chosen.pass_env),
        fallback=tuple(chosen.fallback),
        max_concurrent_runs=chosen.max_concurrent_runs,
        warm=_warm(spec, chosen),
    )


def _warm(spec: BackendSpec, chosen: BackendSettings) -> WarmLimits | None:
    """None if the backend has no warm processes."""
    if spec.warmth is None:
        return None
    if chosen.warm.max is None and not _is_its_own(_command(spec, chosen), spec):
        return None
    given = {name.replace("_secs", "_s"): value for name, value in asdict(chosen.warm).items() if value is not None}
    limits = replace(spec.warmth.limits, **given)
    return replace(limits, min=min(limits.min, limits.max)) if limits.max else None


def _is_its_own(command: tuple[str, ...], spec: BackendSpec) -> bool:
    """Whether the command is the CLI itself, wherever it is installed. Any other program, even a wrapper, may speak another protocol."""
    return len(command) == 1 and os.path.basename(command[0]) == spec.command[0]


def _confinement(sandboxed: Confinement, chosen: BackendSettings, settings: Settings) -> Confinement:
    """The backend's own settings take precedence over the server's."""
    if (chosen.sandbox.kind or settings.server.sandbox.kind or "none") == "none":
        return Confinement(limits=sandboxed.limits)
    return sandboxed


def _sandboxed(spec: BackendSpec, chosen: BackendSettings, settings: Settings) -> Confinement:
    """The confinement with a sandbox, whether or not every run of the backend has one."""
    server = settings.server
    limits = RunLimits(
        **asdict(server.run_limits) | {name: value for name, value in asdict(chosen.run_limits).items() if value is not None}
    )
    # The agent must not read the server's configuration, which holds its keys.
    hidden = tuple(path for path in (settings.home, settings.config_file) if path)
    writable = (*spec.state, *(f"|{path}" for path in (*server.sandbox.writable, *chosen.sandbox.writable)))
    return Confinement(limits=limits, sandbox=BUBBLEWRAP, writable=writable, hidden=hidden)


def _command(spec: BackendSpec, chosen: BackendSettings) -> tuple[str, ...]:
    if chosen.command is None:
        return spec.command
    try:
        words = shlex.split(chosen.command) if isinstance(chosen.command, str) else chosen.command
    except ValueError as error:
        raise Refused(".command", f"expected words as a shell would split them: {error}") from None
    if not words or not words[0]:
        raise Refused(".command", "expected a program, got nothing")
    return tuple(words)


def _defaults(chosen: BackendSettings, unified: UnifiedFlags, aliases: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Defaults for options that a request omits. The backend's own setting takes precedence over the global one."""
    if chosen.model:
        yield "model", aliases.get(chosen.model, chosen.model)
    if chosen.system_prompt:
        yield "system_prompt", chosen.system_prompt
    for name in ("approval_mode", "sandbox_mode"):
        mode = getattr(chosen, name) or getattr(unified, name)
        if mode != "default":
            yield name, mode
    if chosen.allowed_tools:
        yield "allowed_tools", tuple(_words(chosen.allowed_tools) if isinstance(chosen.allowed_tools, str) else chosen.allowed_tools)
    for name in ("max_turns", "max_tokens", "verbose"):
        value = getattr(unified, name)
        if value:
            yield name, value


def _words(text: str) -> list[str]:
    """Split ``Read,Bash(git log:*, -n)`` at commas outside parentheses."""
    return [word.strip() for word in re.findall(r"(?:\([^)]*\)|[^,(])+", text) if word.strip()]


def _default_backend(settings: Settings, specs: dict[str, BackendSpec]) -> Iterator[str]:
    name = settings.default_backend
    if not name:
        if specs and not any(spec.enabled for spec in specs.values()):
            yield "every backend is switched off (backends.<name>.enabled); switch one on"
        return
    if name in specs:
        if not specs[name].enabled:
            yield f"{name!r} is switched off (backends.{name}.enabled); choose another or switch it on"
    elif name not in settings.backends:
        yield f"unknown backend {name!r}; {did_you_mean(name, specs)} Another CLI is declared under `backends`, see docs/backends.md"
