"""Every setting: its name, type, default, meaning and limits. `app.config.load` fills it in.

The customer's key names are kept. The field's metadata is the text of the configuration reference, which is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from app.config.problems import Problem
from services.requests import ApprovalMode, SandboxMode

SYSTEM_FOLDERS = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/root/.ssh", "/run", "/sbin", "/sys", "/usr", "/var/lib", "/var/run",
    "/System", "/Library", "/private/etc", "/private/var/db",
)  # fmt: skip

LOCAL_ORIGINS = ("http://localhost", "http://127.0.0.1", "http://[::1]")


APPROVAL_MODES = get_args(ApprovalMode)
SANDBOX_MODES = get_args(SandboxMode)


def setting(
    default: Any,
    meaning: str,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    is_path: bool = False,
    is_secret: bool = False,
) -> Any:
    """A field with its line in the configuration reference, and what its value (or each of its values) must satisfy.

    A path has its ``~`` expanded and must be absolute. A secret is shown neither in an error nor in a repr.
    """
    limits = {"choices": choices, "at_least": at_least, "above": above, "at_most": at_most}
    metadata = {"meaning": meaning, "limits": limits, "is_path": is_path, "is_secret": is_secret}
    if isinstance(default, list | dict):
        kind = type(default)
        return field(default_factory=lambda: kind(default), metadata=metadata, repr=not is_secret)
    return field(default=default, metadata=metadata, repr=not is_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnifiedFlags:
    approval_mode: str = setting(
        "default", "default | auto | none | always: which actions the agent may take without approval", choices=APPROVAL_MODES
    )
    sandbox_mode: str = setting(
        "default", "default | read-only | workspace | full: what the commands of the agent may write to", choices=SANDBOX_MODES
    )
    verbose: bool = setting(False, "ask the CLI for its own diagnostics")
    dry_run: bool = setting(False, "start nothing; answer every run with the command line it would have had")
    max_turns: int | None = setting(None, "upper bound of an agent's turns", at_least=1)
    max_tokens: int | None = setting(None, "upper bound of an answer, in tokens, for CLIs that have such a setting", at_least=1)
    command_timeout_secs: float | None = setting(
        None, "time limit of one CLI process; the shorter of this and server.request_timeout_secs counts", above=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmSettings:
    """Prestarted processes of a CLI. A value that is not set is the backend's own default."""

    min: int | None = setting(
        None, "processes kept ready from the start on, for runs in the default workdir with default options", at_least=0
    )
    max: int | None = setting(None, "processes kept ready; 0 starts the CLI for each run", at_least=0)
    live_max: int | None = setting(None, "sessions whose process waits for their next turn; 0 ends each with its turn", at_least=0)
    idle_secs: float | None = setting(None, "an unused process is ended after this time", above=0)
    max_uses: int | None = setting(None, "runs of one process, for CLIs that serve several (codex)", at_least=1)
    max_age_secs: float | None = setting(None, "a process that was started longer ago takes no more runs", above=0)
    max_rss_mb: int | None = setting(None, "a process that holds more memory than this is replaced", at_least=1)
    min_free_mb: int | None = setting(
        None, "with less memory free than this, nothing is started beforehand; below half of it, what waits is ended", at_least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimitSettings:
    """What one run may use. The first three count for all its processes together, and are looked at twice a second."""

    cpu_secs: int | None = setting(None, "CPU time of a run", at_least=1)
    memory_bytes: int | None = setting(None, "memory of a run, without what its processes share", at_least=1)
    processes: int | None = setting(None, "processes of a run at a time", at_least=1)
    file_bytes: int | None = setting(None, "largest file that a run may write", at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    kind: str | None = setting(
        None, "none | bubblewrap: the file system is read-only but the workdir and the CLI's own folder", choices=("none", "bubblewrap")
    )
    writable: list[str] = setting([], "further folders that stay writable in the sandbox", is_path=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """What an operator chooses for one backend; for a name that is not built in, also what declares it."""

    enabled: bool = setting(True, "false hides the backend")
    model: str | None = setting(None, "model when a request names none")
    system_prompt: str | None = setting(None, "system prompt when a request has none")
    approval_mode: str | None = setting(None, "as unified_flags.approval_mode, for this backend", choices=APPROVAL_MODES)
    sandbox_mode: str | None = setting(None, "as unified_flags.sandbox_mode, for this backend", choices=SANDBOX_MODES)
    allowed_tools: str | list[str] | None = setting(None, "tools the agent may use without asking: a list, or words separated by commas")
    extra_flags: list[str] = setting([], "flags added to every command line of this CLI, as they are", is_secret=True)
    allowed_extra: dict[str, int] = setting(
        {}, "further flags that a request's `extra` may carry, with the number of values each takes (0 or 1)", at_least=0, at_most=1
    )
    command: str | list[str] | None = setting(None, "the program to start, and its first arguments")
    env: dict[str, str] = setting({}, "environment variables set for this CLI", is_secret=True)
    pass_env: list[str] = setting([], "names (or patterns) of the server's own variables that this CLI also gets")
    driver: str | None = setting(None, "the protocol to use with the CLI, where there is a choice (codex: app-server | exec)")
    max_concurrent_runs: int | None = setting(None, "processes of this backend at a time", at_least=1)
    run_limits: RunLimitSettings = field(default_factory=RunLimitSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    warm: WarmSettings = field(default_factory=WarmSettings)
    models: list[str] = setting([], "model names listed for this backend")
    aliases: dict[str, str] = setting({}, "model names that stand for others: `fast`, `balanced`, `best`, old family names")
    claims: list[str] | None = setting(
        None, "patterns of the model names that mean this backend (`*claude*`); `[]` frees its listed models and aliases too"
    )
    custom: dict[str, Any] | None = setting(None, "declares a CLI that is not built in; see the backends guide")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    retention_days: int = setting(30, "sessions are kept so long after their last turn; 0 keeps them for ever", at_least=0)
    store_token_usage: bool = setting(True, "keep the token numbers of every turn")
    default_tags: list[str] = setting([], "tags that every new session gets")
    database_url: str = setting(
        "",
        "where sessions are kept: empty for the file sessions.db in the home folder, or sqlite:////folder/file.db, or"
        " postgresql://user:password@host/database (needs psycopg)",
        is_secret=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8080, "port to listen on", at_least=0, at_most=65535)
    workers: int = setting(1, "worker processes; more than one needs shared state (rate_limit_storage)", at_least=1)
    worker_connections: int = setting(10_000, "connections that one worker holds", at_least=1)
    request_timeout_secs: float = setting(300.0, "time limit of a whole run", above=0)
    idle_output_timeout_secs: float = setting(180.0, "time limit of a CLI that writes nothing while no tool call is open", above=0)
    read_timeout_secs: float = setting(30.0, "time limit for a request to arrive", above=0)
    write_timeout_secs: float = setting(300.0, "time limit for a client to take what is written to it", above=0)
    idle_timeout_secs: float = setting(120.0, "how long an idle connection is kept open", above=0)
    keepalive_secs: float = setting(10.0, "a stream that is silent so long sends a keep-alive", above=0)
    shutdown_grace_secs: float = setting(30.0, "how long running work may finish when the server stops", at_least=0)
    max_request_body_bytes: int = setting(10 * 1024 * 1024, "largest request body", at_least=1)
    max_output_bytes: int = setting(64 * 1024 * 1024, "largest output of one run; past it the run is stopped", at_least=1)
    line_limit_bytes: int = setting(16 * 1024 * 1024, "longest line that a CLI may write", at_least=1)
    max_concurrent_runs: int = setting(16, "CLI processes at a time", at_least=1)
    run_limits: RunLimitSettings = field(default_factory=RunLimitSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    max_queued_runs: int = setting(256, "runs that wait for a place", at_least=0)
    queue_timeout_secs: float = setting(60.0, "longest wait for a place", above=0)
    api_keys: list[str] = setting(
        [],
        "keys, plain or `sha256:<hex>`, each optionally `name=key` with a unique name; without one it is `key-` and 8 hex digits of the SHA-256",
        is_secret=True,
    )
    api_keys_gopass_path: str = setting("", "gopass path that holds the keys")
    rate_limit_enabled: bool = setting(False, "limit requests per key, or per client address where there are no keys")
    rate_limit_rps: float = setting(10.0, "requests a second, sustained", above=0)
    rate_limit_burst: int = setting(20, "requests at once", at_least=1)
    rate_limit_storage: str = setting("memory://", "`memory://`, or `redis://…` to share the limits between processes", is_secret=True)
    trusted_proxies: list[str] = setting([], "addresses or networks whose X-Forwarded-For, -Proto and -Prefix are believed")
    allowed_hosts: list[str] = setting(
        [], "further names that the Host header may carry on a loopback bind; also with no loopback bind, where not empty"
    )
    cors_allowed_origins: list[str] = setting(
        list(LOCAL_ORIGINS), "origins that a browser may call from, each with any port where it names none; an empty list is the default"
    )
    cors_allow_credentials: bool = setting(False, "let a browser send credentials; refused together with `*`")
    cors_max_age: int = setting(300, "seconds that a browser may remember a preflight", at_least=0)
    allowed_workdir_prefixes: list[str] = setting([], "folders that a workdir must lie in; empty allows all but the blocked", is_path=True)
    blocked_workdir_prefixes: list[str] = setting(
        list(SYSTEM_FOLDERS), "folders that a workdir must not lie in; an empty list is the default", is_path=True
    )
    metrics_enabled: bool = setting(False, "serve GET /metrics, in Prometheus' format")
    metrics_public: bool = setting(False, "allow GET /metrics without a key even if keys are configured")
    tracing_enabled: bool = setting(
        False,
        "send OpenTelemetry traces, configured by the OTEL_* variables; needs opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http",
    )
    strict_models: bool = setting(
        False, "answer 404 to a model name that no available backend claims, instead of using the default backend"
    )
    continue_conversations: bool = setting(
        False,
        "a chat or messages request whose earlier messages are exactly those that were answered before, for the same key, is run as the"
        " next turn of the CLI's own session, and only the last message is sent to it; the CLI keeps these sessions on disk meanwhile."
        " Each worker remembers its own; what is not remembered is sent in full",
    )
    continued_max_sessions: int = setting(256, "sessions kept so at a time, for each worker; the oldest go first", at_least=1)
    continued_idle_secs: float = setting(3600.0, "a session that was not continued in this time is deleted", above=0)
    allow_prompt_directives: bool = setting(False, "let prompts use the CLI's own @file and /command syntax")
    log_format: str = setting("auto", "json | text | auto (text on a terminal)", choices=("auto", "json", "text"))
    log_file: str = setting("", "file to log to instead of standard error; may be rotated by renaming it, with no signal", is_path=True)
    log_level: str = setting("info", "debug | info | warning | error", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelSettings:
    max_workers: int = setting(3, "runs of one /parallel request at a time", at_least=1)
    fail_fast: bool = setting(False, "stop the other runs of a /parallel request when one fails")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    default_backend: str = setting(
        "", "backend when a request names none; empty: the first available of claude, codex, gemini and your own"
    )
    unified_flags: UnifiedFlags = field(default_factory=UnifiedFlags)
    backends: dict[str, BackendSettings] = field(default_factory=dict)
    session: SessionSettings = field(default_factory=SessionSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    parallel: ParallelSettings = field(default_factory=ParallelSettings)

    home: str = setting("~/.clinvk", "folder of the configuration and the sessions (CLINVK_HOME)", is_path=True)
    config_file: str | None = field(default=None, metadata={"is_internal": True})
    """The file that was read, if any."""
    warnings: tuple[Problem, ...] = field(default=(), repr=False, compare=False, metadata={"is_internal": True})
    """What the file holds that means nothing here, each with the reason."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False, metadata={"is_internal": True})
    """Where a setting comes from (`file:line:column`, a variable, the command line), by its dotted key; defaults are not in it."""

    def source_of(self, key: str) -> str:
        """Where ``key``, or the nearest setting above it, was set; empty for a default."""
        while key:
            if key in self.sources:
                return self.sources[key]
            key = key.rpartition("[" if key.endswith("]") else ".")[0]
        return ""


def describe(group: type) -> dict[str, str]:
    """The meaning of every plain setting of a group, by name."""
    return {item.name: item.metadata["meaning"] for item in fields(group) if "meaning" in item.metadata}
