"""`clinvk doctor`: checks the installation and says what to change. Changes nothing itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from app.backends import build_backends, database_url
from app.cli.client.connect import url_of
from app.cli.client.remote import NotReachable, Refused, Remote
from app.config.load import find_home
from app.config.problems import SettingsError
from app.config.schema import Settings
from app.security.api_keys import load_keys, notes_on
from app.security.hosts import is_loopback
from app.security.stored_keys import stored_keys
from app.server.banner import config_source, modes_of
from app.server.serve import CannotListen, listen, who_has_access
from app.version import program_version
from services.access.key_ring import KeyRing
from services.clis.probe import Availability, Prober
from services.clis.spec import BackendSpec
from services.models import ModelResolver
from services.processes.memory import free_mb
from services.redaction import redact

CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check. ``hint`` says what to do, where there is something to do."""

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
    modes: dict[str, str] = field(default_factory=dict)
    """What an agent may do where a request does not say: the approval and sandbox modes in force, by backend."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_usable(self) -> bool:
        """The server starts, and the default backend's CLI is installed. Whether it is logged in is not certain."""
        starts = all(finding.is_good for finding in self.findings if finding.name == "configuration")
        return starts and any(item.available for item in self.backends if item.name == self.default_backend)


def examine(load: Callable[[], Settings]) -> Report:
    """Run all checks. Where ``load`` raises SettingsError, the rest is checked against the defaults."""
    findings = [Finding(name="clinvk", is_good=True, text=f"{program_version()}, Python {'.'.join(map(str, sys.version_info[:3]))}")]
    settings, specs = Settings(home=find_home()), build_backends(Settings())
    keys, problems = KeyRing(), list[str]()
    try:
        settings = load()
        specs = build_backends(settings)
        stored = stored_keys(settings)
        keys = KeyRing((*load_keys(settings, stored=[key.name for key in stored]), *stored))
    except SettingsError as error:
        problems = [str(problem) for problem in error.problems]
    findings += [Finding(name="configuration", is_good=False, text=problem) for problem in problems]
    if not problems:
        findings.append(Finding(name="configuration", is_good=True, text=config_source(settings)))
        is_local = is_loopback(settings.server.host)
        if keys or is_local:
            findings.append(Finding(name="access", is_good=True, text=who_has_access(keys, is_local=is_local, is_open=False)))
        findings += [Finding(name="note", is_good=True, text=str(note)) for note in (*settings.warnings, *notes_on(keys))]
    shown = [spec for spec in specs.values() if spec.enabled]
    prober = Prober(os.environ)
    found = prober.with_versions(shown)
    installed = [spec for spec, item in zip(shown, found, strict=True) if item.available]
    findings += [_home(settings.home), _port(settings), *_workdirs(settings), *_services(settings), *_warm(installed, free_mb())]
    resolver = ModelResolver(specs, default_backend=settings.default_backend, is_available=lambda spec: prober.availability(spec).available)
    hints = {spec.name: _hint(spec, item) for spec, item in zip(shown, found, strict=True)}
    modes = {spec.name: modes_of(spec) for spec in shown}
    return Report(default_backend=resolver.default_backend, backends=found, hints=hints, modes=modes, findings=findings)


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
        url = url_of(server)
        if Remote(url).is_up():
            return Finding(name="address", is_good=True, text=f"a clinvk server runs at {url}{_state(url)}")
        return Finding(name="address", is_good=False, text=str(error))
    return Finding(name="address", is_good=True, text=f"port {server.port} on {server.host} is free")


def _state(url: str) -> str:
    """How the server says that it is: more with a key, where it requires one."""
    try:
        health = Remote(url, os.environ.get("CLINVK_API_KEY", "").strip(), answer_timeout_s=CONNECT_TIMEOUT_S).ask("GET", "/health")
    except Refused as refused:
        health = refused.body
    except NotReachable:
        return ""
    known = [str(health[name]) for name in ("status", "version") if health.get(name)]
    known += [f"{name} not available" for name in (item["name"] for item in health.get("backends", ()) if not item["available"])]
    return f" ({', '.join(known)})"


def _workdirs(settings: Settings) -> Iterator[Finding]:
    for path in settings.server.allowed_workdir_prefixes:
        if not os.path.isdir(path):
            text = f"{path} (server.allowed_workdir_prefixes) is not an existing folder"
            yield Finding(name="workdir", is_good=False, text=text, hint="create it, or change the setting")


def _services(settings: Settings) -> Iterator[Finding]:
    """Whether the database and Redis answer, where the configuration names them."""
    if settings.session.database_url.startswith("postgres"):
        yield _check("database", lambda: _connect(settings), "sessions cannot be stored: see session.database_url")
    if settings.server.rate_limit_enabled and not settings.server.rate_limit_storage.startswith("memory"):
        hint = "until then each worker counts its rate limits in memory: see server.rate_limit_storage"
        yield _check("redis", lambda: _ping(settings.server.rate_limit_storage), hint)


def _check(name: str, connect: Callable[[], None], hint: str) -> Finding:
    try:
        connect()
    except Exception as error:  # each driver has its own tree of errors
        return Finding(name=name, is_good=False, text=redact(str(getattr(error, "orig", error)).strip().splitlines()[0]), hint=hint)
    return Finding(name=name, is_good=True, text="answers")


def _connect(settings: Settings) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(database_url(settings), connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def _ping(url: str) -> None:
    from limits.storage import storage_from_string

    if not storage_from_string(url, socket_connect_timeout=CONNECT_TIMEOUT_S).check():
        raise ConnectionError(f"{urlsplit(url).hostname} does not answer")


def _warm(specs: Sequence[BackendSpec], free: float) -> Iterator[Finding]:
    """How many idle processes of the installed CLIs may be kept ready, and whether there is enough memory for them now."""
    warm = {spec.name: spec.warm for spec in specs if spec.warm and spec.may_be_warm}
    text = ", ".join(f"up to {limits.max} of {name}" for name, limits in warm.items()) or "none"
    short = [f"{name} needs {limits.min_free_mb} MB" for name, limits in warm.items() if free < limits.min_free_mb]
    if short:
        text += f"; none at present, because {free:.0f} MB of memory are free: {', '.join(short)} (warm.min_free_mb)"
    if warm:
        yield Finding(name="kept ready", is_good=True, text=text)


def to_text(report: Report) -> str:
    lines = [
        f"{'ok  ' if item.is_good else '!!  '} {item.name:<14} {item.text}{f' -- {item.hint}' if item.hint else ''}"
        for item in report.findings
    ]
    lines.append("")
    for item in report.backends:
        is_default = item.name == report.default_backend
        default = " (default)" if item.name == report.default_backend else ""
        if item.available:
            logged_in = {True: ", probably logged in", False: ", probably not logged in", None: ""}[item.logged_in]
            modes = f", {report.modes[item.name]}" if report.modes.get(item.name) else ""
            text = f"{item.version or 'found'}{logged_in}{modes}, {item.path}"
        else:
            text = item.reason or "not available"
        hint = report.hints.get(item.name)
        lines.append(
            f"{_mark(item.available and item.logged_in is not False, is_default)} {item.name + default:<18} {text}{f' -- {hint}' if hint else ''}"
        )
        lines += [f"{'':23} {warning}" for warning in item.version_warnings]
    available = ", ".join(item.name for item in report.backends if item.available) or "none"
    usable = "can be used." if report.is_usable else f"cannot be used. Available: {available}"
    return "\n".join([*lines, "", f"The default backend, {report.default_backend}, {usable}"])


def _mark(is_good: bool, is_needed: bool) -> str:
    """`!!` for what has to be changed, `--` for a backend that is optional."""
    return "ok  " if is_good else "!!  " if is_needed else "--  "


def to_json(report: Report) -> str:
    backends = [{**asdict(item), "hint": report.hints.get(item.name, "")} for item in report.backends]
    shown = {"is_usable": report.is_usable, **asdict(report), "backends": backends}
    shown.pop("hints")
    return json.dumps(shown, indent=2)
