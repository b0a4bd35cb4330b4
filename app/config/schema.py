"""Every setting: its name, type, default, meaning and limits. `app.config.load` fills it in.

The customer's key names are kept. The field's metadata is the text of the configuration reference, which is generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from app.config.problems import Problem
from services.access.rights import APPROVAL_ORDER, ROLES, SANDBOX_ORDER, WINDOWS
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
        "default", "default | read-only | workspace | full: where the agent's commands may write", choices=SANDBOX_MODES
    )
    verbose: bool = setting(False, "enable the CLI's own diagnostics")
    dry_run: bool = setting(False, "run nothing; each response has the command line that would run")
    max_turns: int | None = setting(None, "maximum number of agent turns", at_least=1)
    max_tokens: int | None = setting(None, "maximum output tokens, for CLIs that support such a limit", at_least=1)
    command_timeout_secs: float | None = setting(
        None, "time limit of one CLI process; the shorter of this and server.request_timeout_secs applies", above=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmSettings:
    """Prestarted processes of a CLI. A value that is not set is the backend's own default."""

    min: int | None = setting(None, "processes kept ready from startup, for runs in the default workdir with default options", at_least=0)
    max: int | None = setting(None, "maximum processes kept ready; 0: every run starts its own", at_least=0)
    live_max: int | None = setting(
        None, "maximum sessions whose process stays alive for the next turn; 0: each process ends with its turn", at_least=0
    )
    idle_secs: float | None = setting(None, "an idle process is stopped after this time", above=0)
    max_uses: int | None = setting(None, "maximum runs of one process, for CLIs whose process can serve several (codex)", at_least=1)
    max_age_secs: float | None = setting(None, "a process older than this takes no more runs", above=0)
    max_rss_mb: int | None = setting(None, "a process that uses more memory than this is replaced", at_least=1)
    min_free_mb: int | None = setting(
        None, "with less free memory than this, no process is prestarted; with less than half of it, idle processes are stopped", at_least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimitSettings:
    """What one run may use. The first three count for all its processes together, and are looked at twice a second."""

    cpu_secs: int | None = setting(None, "maximum CPU time of a run", at_least=1)
    memory_bytes: int | None = setting(None, "maximum memory of a run, not counting shared memory", at_least=1)
    processes: int | None = setting(None, "maximum concurrent processes of a run", at_least=1)
    file_bytes: int | None = setting(None, "largest file that a run may write", at_least=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    kind: str | None = setting(
        None,
        "none | bubblewrap: the file system is read-only except for the workdir and the CLI's own folder",
        choices=("none", "bubblewrap"),
    )
    writable: list[str] = setting([], "additional folders that are writable in the sandbox", is_path=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """Settings of one backend. For a CLI that is not built in, they also declare it."""

    enabled: bool = setting(True, "false hides the backend")
    like: str | None = setting(
        None,
        "makes this another account of that backend's CLI: it has the same settings except `env`, `pass_env`, `fallback` and `enabled`",
    )
    fallback: list[str] = setting(
        [],
        "backends that answer instead, in this order, if this one is rate limited, overloaded, not logged in or unavailable before its first"
        " word or tool call",
    )
    model: str | None = setting(None, "model if the request names none")
    system_prompt: str | None = setting(None, "system prompt if the request has none")
    approval_mode: str | None = setting(None, "overrides unified_flags.approval_mode for this backend", choices=APPROVAL_MODES)
    sandbox_mode: str | None = setting(None, "overrides unified_flags.sandbox_mode for this backend", choices=SANDBOX_MODES)
    allowed_tools: str | list[str] | None = setting(None, "tools the agent may use without approval: a list, or names separated by commas")
    extra_flags: list[str] = setting([], "flags added unchanged to every command line of this CLI", is_secret=True)
    allowed_extra: dict[str, int] = setting(
        {}, "additional flags allowed in a request's `extra`, each with the number of values it takes (0 or 1)", at_least=0, at_most=1
    )
    command: str | list[str] | None = setting(None, "the program to start, and its first arguments")
    env: dict[str, str] = setting({}, "environment variables set for this CLI", is_secret=True)
    pass_env: list[str] = setting([], "names (or patterns) of the server's environment variables that are passed on to this CLI")
    driver: str | None = setting(None, "protocol between server and CLI, if the CLI has several (codex: app-server | exec)")
    max_concurrent_runs: int | None = setting(None, "maximum concurrent runs of this backend, per worker", at_least=1)
    run_limits: RunLimitSettings = field(default_factory=RunLimitSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    warm: WarmSettings = field(default_factory=WarmSettings)
    models: list[str] = setting([], "model names listed for this backend")
    aliases: dict[str, str] = setting({}, "alternative names of models: `fast`, `balanced`, `best`, old family names")
    claims: list[str] | None = setting(
        None, "patterns of model names that select this backend (`*claude*`); with `[]`, its models and aliases do not select it either"
    )
    custom: dict[str, Any] | None = setting(None, "declares a CLI that is not built in; see the backends guide")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    retention_days: int = setting(30, "sessions are deleted this many days after their last turn; 0 keeps them forever", at_least=0)
    store_token_usage: bool = setting(True, "store the token counts of every turn")
    default_tags: list[str] = setting([], "tags added to every new session")
    database_url: str = setting(
        "",
        "where sessions are stored: empty for the file sessions.db in the home folder, or sqlite:////folder/file.db, or"
        " postgresql://user:password@host/database (needs psycopg)",
        is_secret=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSettings:
    """At most so much in a calendar window (UTC; a week begins on Monday): one of the three amounts, and the window."""

    usd: float | None = setting(None, "money", above=0)
    tokens: int | None = setting(None, "input and output tokens, without cached input", at_least=1)
    runs: int | None = setting(None, "runs", at_least=1)
    per: str | None = setting(None, "hour | day | week | month", choices=WINDOWS)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """An API key as a table. What is left out restricts nothing."""

    name: str = setting("", "unique; it is the owner of what the key makes; default: `key-` and the first 8 hex digits of the SHA-256")
    key: str | list[str] = setting(
        "", "the secret, plain or `sha256:<hex>`; a list of up to 4 while clients change from one to the next", is_secret=True
    )
    role: str = setting("user", "user | admin: an admin sees and manages everything, keys included", choices=ROLES)
    backends: list[str] | None = setting(None, "the only backends that it may use; the first is its default")
    models: list[str] | None = setting(None, "patterns (`*sonnet*`, `codex/*`) of the only models that it may use")
    workdirs: list[str] | None = setting(None, "folders that its workdirs must be in; the first is the default", is_path=True)
    max_approval_mode: str | None = setting(
        None, "the most permissive approval_mode: always, default, auto or none, in this order", choices=APPROVAL_ORDER
    )
    max_sandbox_mode: str | None = setting(
        None, "the most permissive sandbox_mode: read-only, workspace or full, in this order", choices=SANDBOX_ORDER
    )
    isolation: str = setting(
        "none",
        "none | sandbox: the least isolation of its runs; a start refuses `worktree`, because this version has no worktrees",
        choices=("none", "sandbox", "worktree"),
    )
    rate_limit_rps: float | None = setting(None, "its own sustained requests per second, also where rate_limit_enabled is false", above=0)
    rate_limit_burst: int | None = setting(None, "its own maximum burst of requests", at_least=1)
    max_concurrent_runs: int | None = setting(None, "maximum concurrent runs, over all servers; further ones wait", at_least=1)
    max_waiting_runs: int | None = setting(None, "maximum runs that wait for it; 0: none, beyond it they get 429", at_least=0)
    weight: float = setting(1.0, "its share of the queue, relative to other keys", above=0)
    budget: BudgetSettings | list[BudgetSettings] = field(
        default_factory=list,
        metadata={"meaning": "one or several of `{usd: 5, per: day}`, `{tokens: 1000000, per: week}`, `{runs: 100, per: hour}`"},
    )
    expires_at: str | None = setting(None, "when it ceases to be valid, as 2027-01-31T12:00:00Z")
    allow_mcp_servers: str | None = setting(None, "not in this version, which passes no MCP servers on: a start refuses it")
    may_approve: bool = setting(False, "may answer the questions of its runs; in this version agents ask none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8080, "port to listen on", at_least=0, at_most=65535)
    workers: int = setting(1, "worker processes; more than one needs shared state (rate_limit_storage)", at_least=1)
    worker_connections: int = setting(10_000, "maximum connections per worker", at_least=1)
    request_timeout_secs: float = setting(300.0, "time limit of a whole run", above=0)
    idle_output_timeout_secs: float = setting(180.0, "a CLI that writes nothing for this long, with no tool call open, is stopped", above=0)
    read_timeout_secs: float = setting(30.0, "time limit for receiving a request", above=0)
    write_timeout_secs: float = setting(300.0, "a client that reads nothing of its response for this long is disconnected", above=0)
    idle_timeout_secs: float = setting(120.0, "how long an idle connection is kept open", above=0)
    keepalive_secs: float = setting(10.0, "a stream that has been silent for this long sends a keep-alive", above=0)
    shutdown_grace_secs: float = setting(30.0, "time for running requests to finish when the server stops", at_least=0)
    max_request_body_bytes: int = setting(10 * 1024 * 1024, "largest request body", at_least=1)
    max_output_bytes: int = setting(64 * 1024 * 1024, "largest output of one run; a run that exceeds it is stopped", at_least=1)
    line_limit_bytes: int = setting(16 * 1024 * 1024, "longest line that a CLI may write", at_least=1)
    max_concurrent_runs: int = setting(16, "maximum concurrent runs, per worker", at_least=1)
    run_limits: RunLimitSettings = field(default_factory=RunLimitSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    max_queued_runs: int = setting(256, "maximum runs waiting in the queue, per worker", at_least=0)
    queue_timeout_secs: float = setting(60.0, "longest time that a run waits in the queue", above=0)
    api_keys: list[str | KeySettings] = setting(
        [],
        "keys: each a text, plain or `sha256:<hex>`, optionally with a unique name (`name=key`; the default is `key-` and 8 hex digits of"
        " the SHA-256), or a table with the key's rights",
        is_secret=True,
    )
    api_keys_gopass_path: str = setting("", "path of the keys in gopass")
    rate_limit_enabled: bool = setting(False, "limit requests per key, or per client address if there are no keys")
    rate_limit_rps: float = setting(10.0, "sustained requests per second", above=0)
    rate_limit_burst: int = setting(20, "maximum burst of requests", at_least=1)
    rate_limit_storage: str = setting("memory://", "`memory://`, or `redis://…` to share the limits between processes", is_secret=True)
    trusted_proxies: list[str] = setting(
        [], "addresses or networks of proxies whose X-Forwarded-For, -Proto and -Prefix headers are trusted"
    )
    allowed_hosts: list[str] = setting(
        [], "additional names accepted in the Host header; an empty list means no check unless `host` is a loopback address"
    )
    cors_allowed_origins: list[str] = setting(
        list(LOCAL_ORIGINS),
        "origins that browsers may send requests from; one without a port matches any port; an empty list means the default",
    )
    cors_allow_credentials: bool = setting(False, "let browsers send credentials; cannot be combined with `*`")
    cors_max_age: int = setting(300, "seconds that a browser may cache a preflight response", at_least=0)
    allowed_workdir_prefixes: list[str] = setting(
        [], "folders that a workdir must be in; empty allows all except the blocked ones", is_path=True
    )
    blocked_workdir_prefixes: list[str] = setting(
        list(SYSTEM_FOLDERS), "folders that a workdir must not be in; an empty list means the default", is_path=True
    )
    metrics_enabled: bool = setting(False, "serve GET /metrics in Prometheus format")
    metrics_public: bool = setting(False, "allow GET /metrics without a key even if keys are configured")
    tracing_enabled: bool = setting(
        False,
        "send OpenTelemetry traces, configured by the OTEL_* variables; needs opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http",
    )
    strict_models: bool = setting(
        False, "return 404 for a model name that no available backend claims, instead of using the default backend"
    )
    continue_conversations: bool = setting(
        False,
        "if the earlier messages of a chat or messages request exactly match a conversation already answered for the same key, run it as the"
        " next turn of the CLI's own session and send only the last message. In between, the CLI keeps the session on disk. Each worker"
        " remembers only its own conversations; any other is sent in full",
    )
    continued_max_sessions: int = setting(256, "maximum sessions kept for this, per worker; the oldest are deleted first", at_least=1)
    continued_idle_secs: float = setting(3600.0, "a session that is not continued within this time is deleted", above=0)
    mcp_max_depth: int = setting(
        2, "maximum depth of agents that call each other through this server; a deeper call is refused", at_least=1
    )
    allow_prompt_directives: bool = setting(False, "let prompts use the CLI's own @file and /command syntax")
    log_format: str = setting("auto", "json | text | auto (text on a terminal)", choices=("auto", "json", "text"))
    log_file: str = setting("", "file to log to instead of standard error; can be rotated by renaming it, without a signal", is_path=True)
    log_level: str = setting("info", "debug | info | warning | error", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelSettings:
    max_workers: int = setting(3, "maximum concurrent runs of one /parallel request", at_least=1)
    fail_fast: bool = setting(False, "stop the other runs of a /parallel request when one fails")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    url: str = setting("", "where the events are sent")
    secret: str = setting("", "signs them; empty: runs.webhook_secret", is_secret=True)
    events: list[str] = setting([], "which are sent; empty: all")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    timeout_secs: float = setting(14_400.0, "time limit of a background run, from its start", above=0)
    retention_days: float = setting(7.0, "runs are deleted this many days after their end; fractions are allowed", above=0)
    events_retention_hours: float = setting(
        24.0, "the events of a run are deleted this many hours after its end; fractions are allowed", above=0
    )
    max_waiting: int = setting(10_000, "maximum background runs in the queue; beyond it they get 503", at_least=1)
    max_waiting_per_key: int = setting(1_000, "the same for each key; beyond it they get 429", at_least=1)
    webhook_secret: str = setting(
        "", "signs the webhooks of requests without a secret: `whsec_` and base64 of 24 to 64 bytes", is_secret=True
    )
    webhook_allowed_hosts: list[str] = setting([], "hosts (exact, without a port) whose webhooks may have private addresses and plain HTTP")
    webhooks: list[WebhookSettings] = setting(
        [],
        "where the ends of background OpenAI responses whose request has no `webhook` are sent; each has `url`, and optionally `secret` "
        "(default: runs.webhook_secret) and `events` (`response.completed`, `response.failed`, `response.cancelled`, `response.incomplete`)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSettings:
    """What the tokens of models cost, for CLIs that do not report it. A pattern (`gpt-5*`, `codex/*`) is compared without case with the model and
    with `backend/model`; of several that match, the longest counts."""

    input: float | None = setting(None, "US dollars per million input tokens; required", at_least=0)
    output: float | None = setting(None, "US dollars per million output tokens; required", at_least=0)
    cached: float | None = setting(
        None, "US dollars per million input tokens read from the vendor's cache; default: as `input`", at_least=0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSettings:
    retention_days: int = setting(
        400, "the single runs of the usage ledger are deleted after so many days; the sums of days are kept", at_least=1
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    default_backend: str = setting(
        "", "backend if the request names none; empty: the first available of claude, codex, gemini and your own"
    )
    unified_flags: UnifiedFlags = field(default_factory=UnifiedFlags)
    backends: dict[str, BackendSettings] = field(default_factory=dict)
    session: SessionSettings = field(default_factory=SessionSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    parallel: ParallelSettings = field(default_factory=ParallelSettings)
    runs: RunSettings = field(default_factory=RunSettings)
    usage: UsageSettings = field(default_factory=UsageSettings)
    prices: dict[str, PriceSettings] = field(default_factory=dict)

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
