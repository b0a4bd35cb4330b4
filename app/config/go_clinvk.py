"""Configuration of the original clinvk (the Go program), read as it is: what of it means something else here, or nothing.

Its keys have the same names here. What differs: it writes 0, an empty text or an empty list for "not set" (viper fills every
field with Go's zero values), its `config set` writes every value as a text, and some of its keys are about a terminal
program that this server is not. Source: its `internal/config/config.go`, `docs/reference/configuration.md` and
`docs/reference/environment.md`, version 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TERMINAL = "controls the original's terminal output; the client commands here have options instead (--json, --ndjson)"
NO_LIMIT = "0 meant no limit in the original; here there is always a limit, and the default applies"

MEANINGLESS: Mapping[str, str] = {
    "output": TERMINAL,
    "unified_flags.output_format": "is set in each request (output_format)",
    "session.auto_resume": "is not supported; to continue a session, name it in the request: `clinvk prompt --session ID`",
    "parallel.aggregate_output": TERMINAL,
    "server.rate_limit_cleanup_secs": "is not needed: the counters of inactive callers are removed automatically",
}
"""Keys that are ignored, with the reason that is logged at startup. A group includes all keys below it."""

UNSET: Mapping[str, tuple[Any, str]] = {
    "unified_flags.approval_mode": ("", ""),
    "unified_flags.sandbox_mode": ("", ""),
    "unified_flags.max_turns": (0, ""),
    "unified_flags.max_tokens": (0, ""),
    "unified_flags.command_timeout_secs": (0, ""),
    "backends.*.approval_mode": ("", ""),
    "backends.*.sandbox_mode": ("", ""),
    "backends.*.allowed_tools": ("all", ""),
    "server.host": ("", ""),
    "server.request_timeout_secs": (0, NO_LIMIT),
    "server.read_timeout_secs": (0, NO_LIMIT),
    "server.write_timeout_secs": (0, NO_LIMIT),
    "server.idle_timeout_secs": (0, NO_LIMIT),
    "server.max_request_body_bytes": (0, NO_LIMIT),
    "server.rate_limit_rps": (0, "0 meant not set in the original; the default applies"),
    "server.rate_limit_burst": (0, "0 meant not set in the original; the default applies"),
    "server.cors_allowed_origins": ([], ""),
    "server.blocked_workdir_prefixes": ([], ""),
}
"""Values that mean "not set": key → the value, and the note at startup (empty if the default means the same)."""

VARIABLES: Mapping[str, str] = {"CLINVK_MCP_": "configures the original's MCP server, which this program does not have"}
"""Prefixes of variables that are ignored, with the reason."""


def why_meaningless(key: str) -> str | None:
    """Why ``key`` means nothing here; None for a key that the original did not have."""
    return MEANINGLESS.get(key)


def why_unset(key: str, value: Any) -> str | None:
    """None for a value that counts as set; else the note about it, which may be empty."""
    group, _, below = key.partition(".")
    name = f"backends.*.{below.partition('.')[2]}" if group == "backends" else key
    meant, reason = UNSET.get(name, (None, ""))
    return reason if meant is not None and type(value) is type(meant) and value == meant else None


def why_variable_is_left_out(name: str) -> str | None:
    return next((reason for start, reason in VARIABLES.items() if name.startswith(start)), None)
