"""A backend is data: `BackendSpec` says how our words become a CLI's, `invoke` applies it. Starts nothing.

An option's rule is one `Option`, the same for the built-in CLIs and for what a YAML file declares.
In every string of a rule, ``{}`` stands for the value, ``{json}`` for its JSON, and ``{file}`` for the path of a private
file that holds it (for flags that want a path, and for values too long for an argv string).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

from services.decoders.decoder import Decoder
from services.errors import InvalidRequest, OptionNotSupported
from services.run import ApprovalMode, RunRequest, SandboxMode

OPTION_NAMES: Mapping[str, str] = {
    "model": "which model answers",
    "system_prompt": "replaces the CLI's own system prompt",
    "approval_mode": "|".join(get_args(ApprovalMode)),
    "sandbox_mode": "|".join(get_args(SandboxMode)),
    "max_tokens": "upper bound of the answer, in tokens",
    "max_turns": "upper bound of the agent's turns",
    "verbose": "more of the CLI's own diagnostics",
    "allowed_tools": "tools the agent may use without asking",
    "json_schema": "the answer is JSON of this schema",
    "effort": "how hard the model thinks",
    "thinking_tokens": "budget of the model's thinking, in tokens; 0 turns it off",
}
"""Every option a request or the configuration can carry, with its meaning. `/backends` tells which a backend honours."""

REFUSED_IF_UNSUPPORTED = {"json_schema"}
"""Options whose silent loss would make the answer wrong: a backend without them refuses (400)."""

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}")
"""Model names and session ids as they may reach an argv: never a leading dash, nothing a shell or a path would read."""

# Linux refuses one argv string of 128 KiB (E2BIG; measured: 131,071 bytes pass, 131,072 fail).
ARGV_STRING_LIMIT_BYTES = 131_071


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How one option reaches the CLI. Any part may be empty; a value with no rule here is reported as ignored."""

    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """For JSON-RPC drivers: dotted path in the protocol's requests → value template."""
    values: Mapping[str, Option] | None = None
    """A table from our value to its own rule, instead of one template. A value that is missing is not honoured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """One CLI, as data. The first group are facts of the program, the second what the operator chose."""

    name: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    decoder: Callable[[], Decoder]
    driver: str = "oneshot"
    prompt_via: Literal["stdin", "arg"] = "stdin"
    prompt_args: tuple[str, ...] = ()
    """Last in the argv; ``{}`` stands for the prompt when it travels as an argument."""
    shield: Callable[[str], str] | None = None
    """Makes a prompt inert where the CLI would act on its first characters (slash commands)."""
    resume_args: tuple[str, ...] = ()
    """``{}`` stands for the CLI's session id; empty: the CLI cannot resume."""
    ephemeral_args: tuple[str, ...] = ()
    ephemeral_env: Mapping[str, str] = field(default_factory=dict)
    can_be_ephemeral: bool = False
    takes_images: bool = False
    streams_tokens: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    """fnmatch patterns of the model names that mean this backend."""
    allowed_extra: Mapping[str, int] = field(default_factory=dict)
    """Flags a caller may pass through ``extra``, with the number of values each takes."""
    vendor_env: tuple[str, ...] = ()
    """fnmatch patterns of the environment variables that the CLI gets besides the general ones."""
    fixed_env: Mapping[str, str] = field(default_factory=dict)
    version_args: tuple[str, ...] = ("--version",)
    install_hint: str = ""
    login_hint: str = ""
    credentials: tuple[str, ...] = ()
    """Signs of a log-in: environment variables (``NAME``) or files (a path, ``~`` allowed)."""
    interrupt_signal: int = 15
    is_demo: bool = False

    enabled: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Options from the configuration, used where a request says nothing."""
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    max_concurrent_runs: int | None = None

    def honours(self, option: str) -> bool:
        return option in self.options


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What a driver needs to run one request: nothing of it is decided later, and nothing has started yet."""

    spec: BackendSpec
    request: RunRequest
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    stdin: bytes = field(repr=False)
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Private files to write before the start: path → content."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None
    ignored: tuple[str, ...] = ()
    run_dir: str = ""
    """The run's own temporary folder, made at the start and removed at the end."""


def invoke(spec: BackendSpec, request: RunRequest, *, cwd: str, environ: Mapping[str, str], run_dir: str) -> Invocation:
    """Apply the table: everything a driver needs for ``request``. Raises InvalidRequest for what must not be ignored.

    ``environ`` is what the CLI's environment is picked from; ``run_dir`` is where private files will live.
    """
    asked = {**spec.defaults, **{name: value for name, value in request.options.items() if value is not None}}
    build = _Build(spec, run_dir, cli_environment(spec, environ))
    for name, value in asked.items():
        build.apply(name, value)
    if not spec.resume_args and request.resume:
        raise OptionNotSupported(spec.name, "resume", "this CLI cannot continue a session")
    if request.images and not spec.takes_images:
        raise OptionNotSupported(spec.name, "images", "send text only, or choose a backend that takes images")
    if request.ephemeral:
        build.env |= {key: build.fill(value, "") for key, value in spec.ephemeral_env.items()}
        build.argv += spec.ephemeral_args
    if request.resume:
        session_id = safe_name(request.resume, "session_id")
        build.argv += [part.replace("{}", session_id) for part in spec.resume_args]
    build.argv += check_extra(spec, request.extra)
    build.env |= {"TMPDIR": run_dir} | dict(spec.env)
    prompt = spec.shield(request.prompt) if spec.shield else request.prompt
    argv = (*spec.command, *spec.args, *build.argv, *spec.extra_args)
    stdin = b""
    if spec.prompt_via == "stdin":
        argv += spec.prompt_args
        stdin = prompt.encode()
    else:
        argv += tuple(part.replace("{}", prompt) for part in spec.prompt_args)
    _check_argv(spec, argv)
    return Invocation(
        spec=spec,
        request=request,
        argv=argv,
        env=build.env,
        cwd=cwd,
        stdin=stdin,
        files=build.files,
        fields=build.fields,
        model=asked.get("model"),
        ignored=tuple(build.ignored),
        run_dir=run_dir,
    )


class _Build:
    """The parts of an invocation while the options are applied to it."""

    def __init__(self, spec: BackendSpec, run_dir: str, env: dict[str, str]) -> None:
        self.spec = spec
        self.run_dir = run_dir
        self.env = env
        self.argv: list[str] = []
        self.files: dict[str, str] = {}
        self.fields: dict[str, Any] = {}
        self.ignored: list[str] = []

    def apply(self, name: str, value: Any) -> None:
        """Add what option ``name`` means here; ``default`` and False mean that nothing was asked for."""
        if value in ("default", False, (), []):
            return
        rule = self.spec.options.get(name)
        if rule and rule.values is not None:
            rule = rule.values.get(str(value))
        if rule is None:
            if name in REFUSED_IF_UNSUPPORTED:
                raise OptionNotSupported(self.spec.name, name, "choose a backend that has it (GET /api/v1/backends)")
            self.ignored.append(name)
            return
        if name == "model":
            safe_name(value, "model")
        self.argv += [self.fill(part, value, name) for part in rule.argv]
        self.env |= {key: self.fill(part, value, name) for key, part in rule.env.items()}
        for path, template in rule.fields.items():
            _set(self.fields, path, value if template == "{}" else self._fill_any(template, value, name))

    def fill(self, template: str, value: Any, name: str = "value") -> str:
        """``template`` with its placeholders replaced once; the value's own braces stay as they are."""

        def put(match: re.Match[str]) -> str:
            match match.group():
                case "{}":
                    return _text(value)
                case "{json}":
                    return _json(value)
                case "{run_dir}":
                    return self.run_dir
            path = os.path.join(self.run_dir, f"{name}.{'json' if isinstance(value, dict) else 'txt'}")
            self.files[path] = _text(value)
            return path

        return PLACEHOLDER.sub(put, template)

    def _fill_any(self, template: Any, value: Any, name: str) -> Any:
        if isinstance(template, str):
            return self.fill(template, value, name)
        if isinstance(template, Mapping):
            return {key: self._fill_any(part, value, name) for key, part in template.items()}
        return template


PLACEHOLDER = re.compile(r"\{\}|\{json\}|\{file\}|\{run_dir\}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _set(fields: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        fields = fields.setdefault(parent, {})
    fields[last] = value


def safe_name(value: str, field: str) -> str:
    """``value`` if it may stand in an argv as a model name or session id. Raises InvalidRequest."""
    if not SAFE_NAME.fullmatch(value):
        issue = "must start with a letter or digit and hold only letters, digits and ._:/@[]- (at most 128)"
        raise InvalidRequest(f"{field} {value[:140]!r} {issue}", field=field, issue=issue)
    return value


def check_extra(spec: BackendSpec, extra: tuple[str, ...]) -> list[str]:
    """``extra`` as argv, each flag with its values as ``--flag=value``. Raises InvalidRequest for a flag not allowed."""
    argv: list[str] = []
    words = iter(extra)
    for word in words:
        flag, has_value, value = word.partition("=")
        arity = spec.allowed_extra.get(flag)
        if arity is None:
            allowed = ", ".join(sorted(spec.allowed_extra)) or "none"
            raise InvalidRequest(
                f"extra: backend {spec.name!r} does not allow {flag!r}; allowed: {allowed}", field="extra", issue="flag not allowed"
            )
        if not has_value and arity:
            value = next(words, "")
        if bool(arity) != bool(value):
            needs = "needs a value" if arity else "takes no value"
            raise InvalidRequest(f"extra: {flag} {needs}", field="extra", issue=needs)
        argv.append(f"{flag}={value}" if arity else flag)
    return argv


GENERAL_ENV = (
    "PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TZ", "USER", "LOGNAME", "SHELL", "XDG_*",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
"""fnmatch patterns of the variables that every CLI gets. The server's own (``CLINVK_*``) never reach a CLI."""


def cli_environment(spec: BackendSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The clean environment of a CLI: picked from ``environ`` by allow-list, then the spec's fixed variables."""
    patterns = (*GENERAL_ENV, *spec.vendor_env, *spec.pass_env)
    picked = {
        name: value
        for name, value in environ.items()
        if not name.startswith("CLINVK_") and any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    return picked | dict(spec.fixed_env)


def _check_argv(spec: BackendSpec, argv: tuple[str, ...]) -> None:
    for part in argv:
        if "\0" in part:
            raise InvalidRequest("the request holds a NUL character, which no program argument can carry", issue="NUL character")
        if len(part.encode()) > ARGV_STRING_LIMIT_BYTES:
            raise InvalidRequest(
                f"backend {spec.name!r} takes this value as an argument, which the system limits to {ARGV_STRING_LIMIT_BYTES} bytes",
                issue="value too long for an argument",
            )
