"""`clinvk doctor`: what works on this machine, and what to do about what does not. Changes nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from app.backends import build_backends
from app.config.load import find_home
from app.config.problems import SettingsError
from app.config.schema import Settings
from app.security.api_keys import load_keys
from app.server.banner import config_source
from app.server.serve import CannotListen, listen
from app.version import program_version
from services.clis.probe import Availability, Prober
from services.clis.spec import BackendSpec
from services.models import ModelResolver
from services.processes.memory import free_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. ``hint`` says what to do, where there is something to do."""

    name: str
    is_good: bool
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    default_backend: str
    backends: list[Availability] = field(default_factory=list)
    hints: dict[str, str] = field(default_factory=dict)
    """What to do about a backend, by its name."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_usable(self) -> bool:
        """The server starts, and the default backend's CLI is there. Whether it is logged in is only a guess."""
        starts = all(finding.is_good for finding in self.findings if finding.name == "configuration")
        return starts and any(item.available for item in self.backends if item.name == self.default_backend)


def examine(load: Callable[[], Settings]) -> Report:
    """Look at everything. ``load`` gives the settings, or raises SettingsError; then the rest is judged by the defaults."""
    findings = [Finding(name="clinvk", is_good=True, text=f"{program_version()}, Python {'.'.join(map(str, sys.version_info[:3]))}")]
    settings, specs = Settings(home=find_home()), build_backends(Settings())
    problems: list[str] = []
    try:
        settings = load()
        specs = build_backends(settings)
        load_keys(settings)
    except SettingsError as error:
        problems = [str(problem) for problem in error.problems]
    findings += [Finding(name="configuration", is_good=False, text=problem) for problem in problems]
    if not problems:
        findings.append(Finding(name="configuration", is_good=True, text=config_source(settings)))
        findings += [Finding(name="note", is_good=True, text=str(warning)) for warning in settings.warnings]
    shown = [spec for spec in specs.values() if spec.enabled]
    findings += [_home(settings.home), _port(settings), _warm(shown, free_mb())]
    prober = Prober(os.environ)
    found = prober.with_versions(shown)
    resolver = ModelResolver(specs, default_backend=settings.default_backend, is_available=lambda spec: prober.availability(spec).available)
    hints = {spec.name: _hint(spec, item) for spec, item in zip(shown, found, strict=True)}
    return Report(default_backend=resolver.default_backend, backends=found, hints=hints, findings=findings)


def _hint(spec: BackendSpec, found: Availability) -> str:
    if not found.available:
        return "" if found.path is None and spec.install_hint in (found.reason or "") else spec.install_hint
    return spec.login_hint if found.logged_in is False else ""


def _home(home: str) -> Finding:
    """Sessions are written below it; it is made at the first use."""
    nearest = next(folder for folder in (Path(home), *Path(home).parents) if folder.exists())
    is_good = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    text = f"{home} {'can be written' if is_good else 'cannot be written'}{'' if nearest == Path(home) else ' (it is not there yet)'}"
    return Finding(name="home", is_good=is_good, text=text, hint="" if is_good else "change its owner or rights, or set CLINVK_HOME")


def _port(settings: Settings) -> Finding:
    server = settings.server
    try:
        listen(server.host, server.port).close()
    except CannotListen as error:
        return Finding(name="address", is_good=False, text=str(error))
    return Finding(name="address", is_good=True, text=f"port {server.port} on {server.host} is free")


def _warm(specs: Iterable[BackendSpec], free: float) -> Finding:
    """Which backends may have processes that wait, and whether there is memory for them now."""
    warm = {spec.name: spec.warm for spec in specs if spec.warm and spec.may_be_warm}
    text = ", ".join(f"up to {limits.max} of {name}" for name, limits in warm.items()) or "none"
    short = [f"{name} wants {limits.min_free_mb} MB" for name, limits in warm.items() if free < limits.min_free_mb]
    if short:
        text += f"; not now, {free:.0f} MB of memory are free: {', '.join(short)} (warm.min_free_mb)"
    return Finding(name="warm processes", is_good=True, text=text)


def to_text(report: Report) -> str:
    lines = [f"{_mark(item.is_good)} {item.name:<14} {item.text}{f' -- {item.hint}' if item.hint else ''}" for item in report.findings]
    lines.append("")
    for item in report.backends:
        default = " (default)" if item.name == report.default_backend else ""
        if item.available:
            logged_in = {True: ", looks logged in", False: ", does not look logged in", None: ""}[item.logged_in]
            text = f"{item.version or 'found'}{logged_in}, {item.path}"
        else:
            text = item.reason or "not available"
        hint = report.hints.get(item.name)
        lines.append(
            f"{_mark(item.available and item.logged_in is not False)} {item.name + default:<18} {text}{f' -- {hint}' if hint else ''}"
        )
        lines += [f"{'':23} {warning}" for warning in item.version_warnings]
    usable = "can" if report.is_usable else "cannot"
    return "\n".join([*lines, "", f"The default backend, {report.default_backend}, {usable} be used."])


def _mark(is_good: bool) -> str:
    return "ok  " if is_good else "--  "


def to_json(report: Report) -> str:
    backends = [{**asdict(item), "hint": report.hints.get(item.name, "")} for item in report.backends]
    shown = {"is_usable": report.is_usable, **asdict(report), "backends": backends}
    shown.pop("hints")
    return json.dumps(shown, indent=2)
