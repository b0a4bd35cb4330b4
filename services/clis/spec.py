"""A backend is data: `BackendSpec` says how our words become a CLI's, `services.clis.command` applies it. Starts nothing.

An option's rule is one `Option`, the same for the built-in CLIs and for what a YAML file declares.
In every string of a rule, ``{}`` stands for the value, ``{json}`` for its JSON, and ``{file}`` for the path of a private
file that holds it (for flags that want a path, and for values too long for an argv string). A rule's ``fields`` may be any
JSON; a string in it that is just ``{}`` stands for the value as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from services.clis.config_overlay import PrivateHome
from services.clis.conversation import Conversation, OneShot
from services.clis.option import Option
from services.clis.session_files import SessionFiles
from services.clis.shown_command import redacted_argv
from services.clis.versions import SupportedVersions
from services.clis.warmth import WarmLimits, Warmth
from services.decoding.decoder import Decoder
from services.history import Message
from services.processes.confinement import BUBBLEWRAP, Confinement
from services.requests import ApprovalMode, RunRequest, SandboxMode

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEscaping:
    """What makes a prompt inert where the CLI would act on it: ``/command``, ``@file``. Left out (None) where directives are
    wanted (``allow_prompt_directives``)."""

    escape: Callable[[str, str], tuple[str, Mapping[str, str]]]
    """(prompt, name of the run) → what the CLI is told instead, and the private files that it needs for it: path → content."""
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """One CLI, as data. The first group are facts of the program, the second what the operator chose."""

    name: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    decoder: Callable[[], Decoder]
    conversation: Callable[[Invocation], Conversation] = OneShot
    """With a process that is started for the run."""
    prompt_via: Literal["stdin", "arg"] = "stdin"
    prompt_args: tuple[str, ...] = ()
    """Last in the argv; ``{}`` stands for the prompt when it travels as an argument."""
    escaping: PromptEscaping | None = None
    fixed_fields: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path → value that every run has, as `Option.fields`."""
    private_home: PrivateHome | None = None
    """Where the fields go; None where a driver sends them."""
    resume_args: tuple[str, ...] = ()
    """``{}`` stands for the CLI's session id; empty where a driver asks for it in its protocol."""
    resumed_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By option, or flag of ``extra``: the fields that a run with it needs as well when it resumes a session."""
    can_resume: bool = False
    resumed_usage_is_total: bool = False
    """The CLI counts the tokens of a resumed session from its first turn on."""
    session_files: SessionFiles | None = None
    """Where the CLI keeps its sessions; None where that is not known: then they are neither copied nor deleted."""
    ephemeral_args: tuple[str, ...] = ()
    ephemeral_env: Mapping[str, str] = field(default_factory=dict)
    can_be_ephemeral: bool = False
    branches_off: bool = False
    """An ephemeral run may resume a session: it goes on from where that is, and leaves it as it was."""
    takes_images: bool = False
    takes_history: bool = False
    """Earlier messages reach the model in their own roles; otherwise the prompt is a transcript of them."""
    takes_system_in_place: bool = False
    """Also system messages that come later than the first message of the user. Else they belong to the system prompt."""
    thinks_after_calls: bool = True
    """False where an assistant that is in the middle of a turn, its calls having been answered, cannot be given back what it has thought:
    it goes on without thinking."""
    streams_tokens: bool = False
    reports_cost: bool = False
    """The CLI says what a run has cost."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    """fnmatch patterns of the model names that mean this backend."""
    claims_listed: bool = True
    """Its listed models and aliases mean this backend too, without its name before them."""
    allowed_extra: Mapping[str, int] = field(default_factory=dict)
    """Flags a caller may pass through ``extra``, with the number of values each takes."""
    evasive: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By flag: the rights of an API key that it could evade. A caller's flag that is not listed counts as if it could evade all."""
    opened: Mapping[str, SandboxMode] = field(default_factory=dict)
    """By approval mode: the sandbox mode that it brings along where the run names none."""
    state: tuple[str, ...] = ()
    """Where the CLI keeps log-ins and sessions: writable in a sandbox. See `Confinement.writable` for the form."""
    vendor_env: tuple[str, ...] = ()
    """fnmatch patterns of the environment variables that the CLI gets besides the general ones; ``!`` takes one away again."""
    fixed_env: Mapping[str, str] = field(default_factory=dict)
    version_args: tuple[str, ...] = ("--version",)
    versions: SupportedVersions | None = None
    """None where nothing is known of them."""
    install_hint: str = ""
    login_hint: str = ""
    credentials: tuple[str, ...] = ()
    """Signs of a log-in: environment variables (``NAME``) or files (a path, ``~`` allowed). Files below the folder of `session_files` are
    looked for where the environment moves it to."""
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
    fallback: tuple[str, ...] = ()
    """Backends that answer in its place if it cannot, in this order (`services.fallback`)."""
    max_concurrent_runs: int | None = None
    confinement: Confinement = Confinement()
    sandboxed: Confinement = Confinement(sandbox=BUBBLEWRAP)
    """The confinement of a run whose API key demands a sandbox."""
    warm: WarmLimits | None = None
    """None: no process is started before its run."""

    resolve: Callable[[str], str] | None = None
    """The program to start for the one that was found, where the found one is a wrapper."""

    @property
    def may_be_warm(self) -> bool:
        """Limits and sandbox are put around one run, its workdir and its folder, when its process is started."""
        return bool(self.warm and self.warmth) and not self.confinement

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
    messages: tuple[Message, ...] = field(default=(), repr=False)
    """The input of a CLI that takes history, in place of the prompt; empty for any other."""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Private files to write before the start: path → content."""
    links: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Symbolic links to make beside them: path → what it points at."""
    folders: tuple[str, ...] = ()
    """Folders of the CLI's that must be there."""
    prompt_files: frozenset[str] = frozenset()
    """Those of the files that belong to the prompt: a process that waits for one gets them with it."""
    home: str = ""
    """The CLI's own folder, the real one; empty where that is not known."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    confinement: Confinement = Confinement()
    resume_argv: frozenset[str] = frozenset()
    """Those of the arguments that name the session."""
    cli_version: str | None = None
    """Of the installed CLI; None where it is not known yet."""
    own_env: Mapping[str, str] = field(default_factory=dict)
    """Variables for a process of the run's own. They set no kind of run apart: one that is there already serves it without them."""
    model: str | None = None
    ignored: tuple[str, ...] = ()
    run_dir: str = ""
    """The run's own temporary folder, made at the start and removed at the end."""

    @property
    def may_be_warm(self) -> bool:
        """Whether a process that other runs use may serve it: a confinement is put around one run."""
        return self.spec.may_be_warm and not self.confinement

    @property
    def shown_argv(self) -> list[str]:
        """The command line for callers and logs: without credentials."""
        return redacted_argv(self.argv, self.env)

    def prepare(self) -> None:
        """Write what belongs in the run's folder. To make and to remove the folder is the caller's."""
        self.prepare_process()
        self.prepare_prompt(self.run_dir)

    def prepare_process(self) -> None:
        """All but what belongs to the prompt."""
        missing = {folder for folder in self.folders if not _make_folder(folder)}
        for path, content in self.files.items():
            if path not in self.prompt_files:
                _write(path, content)
        for path, target in self.links.items():
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            if target not in missing:
                os.symlink(target, path)

    def prepare_prompt(self, run_dir: str) -> None:
        """What belongs to the prompt, in the folder of the process that gets it."""
        for path in self.prompt_files:
            _write(os.path.join(run_dir, os.path.relpath(path, self.run_dir)), self.files[path])


def _write(path: str, content: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8", newline="") as file:
        file.write(content)


def _make_folder(folder: str) -> bool:
    """False in a home that is read-only: then the run does without what it would keep there."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return False
    return True
