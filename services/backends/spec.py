"""A backend is data: `BackendSpec` says how our words become a CLI's, `invoke` applies it. Starts nothing.

An option's rule is one `Option`, the same for the built-in CLIs and for what a YAML file declares.
In every string of a rule, ``{}`` stands for the value, ``{json}`` for its JSON, and ``{file}`` for the path of a private
file that holds it (for flags that want a path, and for values too long for an argv string). A rule's ``fields`` may be any
JSON; a string in it that is just ``{}`` stands for the value as it is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_args

import orjson

from services.backends.private_home import HOME, PrivateHome, merged, settings_with
from services.backends.session_files import SessionFiles
from services.backends.warm import WarmLimits, Warmth
from services.decoders.decoder import Decoder
from services.errors import InvalidRequest, OptionNotSupported
from services.processes.confinement import Confinement
from services.run import ApprovalMode, Image, RunRequest, SandboxMode

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
"""Every option a request or the configuration can carry, with its meaning. `/backends` tells which a backend honours.

They are applied in this order: where two rules set the same thing, the later one's counts (a sandbox asked for by name
before the one that an approval mode brings along).
"""

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
    """Dotted path → value template: in the requests of a JSON-RPC driver, or in the settings of a `PrivateHome`."""
    values: Mapping[str, Option] | None = None
    """A table from our value to its own rule, instead of one template. A value that is missing is not honoured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shield:
    """What makes a prompt inert where the CLI would act on it: ``/command``, ``@file``. Left out (None) where directives are
    wanted (``allow_prompt_directives``)."""

    guard: Callable[[str, str], tuple[str, Mapping[str, str]]]
    """(prompt, name of the run) → what the CLI is told instead, and the private files that it needs for it: path → content."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """How pictures travel through stdin, together with the prompt, for a CLI that takes them so."""

    encode: Callable[[str, tuple[Image, ...]], bytes]
    args: tuple[str, ...] = ()


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
    shield: Shield | None = None
    image_input: ImageInput | None = None
    """None where the CLI takes no pictures, or its driver sends them in its own way."""
    fixed_fields: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path → value that every run has, as `Option.fields`."""
    private_home: PrivateHome | None = None
    """Where the fields go; None where a driver sends them."""
    resume_args: tuple[str, ...] = ()
    """``{}`` stands for the CLI's session id; empty where a driver asks for it in its protocol."""
    can_resume: bool = False
    resumed_usage_is_total: bool = False
    """The CLI counts the tokens of a resumed session from its first turn on."""
    session_files: SessionFiles | None = None
    """Where the CLI keeps its sessions; None where that is not known: then they are neither copied nor deleted."""
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
    state: tuple[str, ...] = ()
    """Where the CLI keeps log-ins and sessions: writable in a sandbox. See `Confinement.writable` for the form."""
    vendor_env: tuple[str, ...] = ()
    """fnmatch patterns of the environment variables that the CLI gets besides the general ones; ``!`` takes one away again."""
    fixed_env: Mapping[str, str] = field(default_factory=dict)
    version_args: tuple[str, ...] = ("--version",)
    install_hint: str = ""
    login_hint: str = ""
    credentials: tuple[str, ...] = ()
    """Signs of a log-in: environment variables (``NAME``) or files (a path, ``~`` allowed)."""
    interrupt_signal: int = 15
    warmth: Warmth | None = None
    """None where every run must have a process of its own."""
    is_demo: bool = False

    enabled: bool = True
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Options from the configuration, used where a request says nothing."""
    extra_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    pass_env: tuple[str, ...] = ()
    max_concurrent_runs: int | None = None
    confinement: Confinement = Confinement()
    warm: WarmLimits | None = None
    """None: nothing is started before it is asked for."""

    resolve: Callable[[str], str] | None = None
    """The program to start for the one that was found, where the found one is a wrapper."""

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
    links: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Symbolic links to make beside them: path → what it points at."""
    folders: tuple[str, ...] = ()
    """Folders of the CLI's that must be there."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None
    ignored: tuple[str, ...] = ()
    run_dir: str = ""
    """The run's own temporary folder, made at the start and removed at the end."""

    def prepare(self) -> None:
        """Make the run's folder, where it is not there yet, and all that belongs in it. Removing it again is the caller's."""
        os.makedirs(self.run_dir, mode=0o700, exist_ok=True)
        missing = {folder for folder in self.folders if not _make_folder(folder)}
        for folder in {os.path.dirname(path) for path in (*self.files, *self.links)}:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        for path, content in self.files.items():
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="") as file:
                file.write(content)
        for path, target in self.links.items():
            if target not in missing:
                os.symlink(target, path)


def invoke(spec: BackendSpec, request: RunRequest, *, cwd: str, environ: Mapping[str, str], run_dir: str) -> Invocation:
    """Apply the table: everything a driver needs for ``request``. Raises InvalidRequest for what must not be ignored.

    ``environ`` is what the CLI's environment is picked from; ``run_dir`` is where private files will live.
    """
    asked = {**spec.defaults, **{name: value for name, value in request.options.items() if value is not None}}
    build = _Build(spec, run_dir, cli_environment(spec, environ))
    for name in sorted(asked, key=_place):
        build.apply(name, asked[name])
    if request.resume and not spec.can_resume:
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
    prompt = build.shielded(request.prompt)
    build.env |= {"TMPDIR": run_dir} | dict(spec.env)
    confinement = spec.confinement.resolved(build.env)  # by the real home, before a private one takes its place
    if spec.private_home:
        build.make_home(spec.private_home, is_ephemeral=request.ephemeral)
    stdin = b""
    if request.images and spec.image_input:
        build.argv += spec.image_input.args
        stdin = spec.image_input.encode(prompt, request.images)
    elif spec.prompt_via == "stdin":
        stdin = _utf8(prompt, "prompt")
    prompt_args = [part.replace("{}", prompt) if spec.prompt_via == "arg" else part for part in spec.prompt_args]
    replace(confinement, run_dir=run_dir).put(build.env)
    argv = (*_command(spec, build.env), *spec.args, *build.argv, *spec.extra_args, *prompt_args)
    _check_strings(spec, (*argv, *(f"{name}={value}" for name, value in build.env.items())))
    _check_json(build.fields)
    for path, content in build.files.items():
        _utf8(content, os.path.basename(path).partition(".")[0])
    return Invocation(
        spec=spec,
        request=request,
        argv=argv,
        env=build.env,
        cwd=cwd,
        stdin=stdin,
        files=build.files,
        links=build.links,
        folders=tuple(build.folders),
        fields=build.fields,
        model=asked.get("model"),
        ignored=tuple(build.ignored),
        run_dir=run_dir,
    )


def _make_folder(folder: str) -> bool:
    """False in a home that is read-only: then the run does without what it would keep there."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return False
    return True


def _command(spec: BackendSpec, env: Mapping[str, str]) -> tuple[str, ...]:
    found = spec.resolve and shutil.which(spec.command[0], path=env.get("PATH"))
    if not spec.resolve or not found:
        return spec.command
    program = spec.resolve(found)
    return spec.command if program == found else (program, *spec.command[1:])


def _place(option: str) -> int:
    names = list(OPTION_NAMES)
    return names.index(option) if option in names else len(names)


class _Build:
    """The parts of an invocation while the options are applied to it."""

    def __init__(self, spec: BackendSpec, run_dir: str, env: dict[str, str]) -> None:
        self.spec = spec
        self.run_dir = run_dir
        self.env = env
        self.argv: list[str] = []
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.folders: list[str] = []
        self.fields: dict[str, Any] = {}
        self.ignored: list[str] = []
        self.set_fields(deepcopy(dict(spec.fixed_fields)))

    def apply(self, name: str, value: Any) -> None:
        """Add what option ``name`` means here; ``default`` and False mean that nothing was asked for."""
        if value is False or value == "default" or (isinstance(value, list | tuple) and not value):
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
        self.set_fields({path: self._fill_any(template, value, name) for path, template in rule.fields.items()})

    def shielded(self, prompt: str) -> str:
        """``prompt`` as it may reach the CLI; sets the rest of what the shield needs."""
        shield = self.spec.shield
        if shield is None:
            return prompt
        self.env |= shield.env
        prompt, files = shield.guard(prompt, os.path.basename(self.run_dir))
        self.files |= {os.path.join(self.run_dir, path): content for path, content in files.items()}
        return prompt

    def set_fields(self, fields: Mapping[str, Any]) -> None:
        for path, value in fields.items():
            *parents, last = path.split(".")
            group = self.fields
            for parent in parents:
                group = group.setdefault(parent, {})
            group[last] = merged(group[last], value) if last in group else value

    def make_home(self, home: PrivateHome, *, is_ephemeral: bool) -> None:
        real = home.real(self.env)
        mine = os.path.join(self.run_dir, HOME, home.folder)
        self.folders += home.shared_folders(real, is_ephemeral=is_ephemeral)
        self.links |= {os.path.join(mine, name): os.path.join(real, name) for name in home.linked(real, is_ephemeral=is_ephemeral)}
        self.files[os.path.join(mine, home.settings)] = settings_with(os.path.join(real, home.settings), self.fields)
        self.env[home.variable] = os.path.join(self.run_dir, HOME)

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
        match template:
            case "{}":
                return value
            case str():
                return self.fill(template, value, name)
            case dict():
                return {key: self._fill_any(part, value, name) for key, part in template.items()}
            case list() | tuple():
                return [self._fill_any(part, value, name) for part in template]
        return template


PLACEHOLDER = re.compile(r"\{\}|\{json\}|\{file\}|\{run_dir\}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return _json(value)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise InvalidRequest("the request holds a value that is nested too deep", issue="nested too deep") from None


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
        if bool(value or has_value) != bool(arity):
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
    refused = ("CLINVK_*", *(pattern[1:] for pattern in patterns if pattern.startswith("!")))
    picked = {name: value for name, value in environ.items() if _is_any(name, patterns) and not _is_any(name, refused)}
    return picked | dict(spec.fixed_env)


def _is_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_strings(spec: BackendSpec, strings: tuple[str, ...]) -> None:
    """Of an argv or an environment. Raises InvalidRequest for one that no process can be given."""
    for part in strings:
        if "\0" in part:
            raise InvalidRequest("the request holds a NUL character, which no program argument can carry", issue="NUL character")
        if len(_utf8(part, None)) > ARGV_STRING_LIMIT_BYTES:
            raise InvalidRequest(
                f"backend {spec.name!r} takes this value as an argument, which the system limits to {ARGV_STRING_LIMIT_BYTES} bytes",
                issue="value too long for an argument",
            )


def _check_json(fields: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for what the request carries that no JSON can: half a surrogate pair, nesting without end."""
    try:
        orjson.dumps(fields)
    except TypeError as error:
        raise InvalidRequest(f"the request holds a value that no JSON can carry: {error}", issue=str(error)) from None


def _utf8(text: str, field: str | None) -> bytes:
    """``text`` as bytes. JSON can carry half of a surrogate pair, which is no text. Raises InvalidRequest."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        issue = "half of a surrogate pair"
        raise InvalidRequest(f"{field or 'the request'} holds a character that is none: {issue}", field=field, issue=issue) from None
