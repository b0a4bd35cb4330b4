"""Coding agents as clients (Claude Code, Codex): whose client tools are ignored instead of rejected. Pure.

Client tools are rejected by default: a program that declares a function expects calls to it, and no CLI would ever make one.
The tools of a coding agent only read, write and run things in a folder, which the CLI does with its own tools. They are
dropped and listed in ``X-Clinvk-Ignored``. Coding agents are recognized by their User-Agent; any other client can opt in with
the header ``X-Clinvk-Tools``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

TOOLS_HEADER = "X-Clinvk-Tools"
"""``ignore``: drop the client's tools, whatever its User-Agent."""

TOOLS_REFUSED = (
    "client tools are not supported, the CLI uses its own tools; "
    f"omit `tools`, or send the header {TOOLS_HEADER}: ignore to have them ignored"
)

USER_AGENT = re.compile(r"(claude-cli|codex[a-z_-]*)/", re.IGNORECASE)
"""As sent by claude 2.1 (``claude-cli/2.1.197 (external, sdk-cli)``) and codex 0.169 (``codex_exec/0.169.0 (…)``, ``codex_cli_rs/…``)."""

CODEX = re.compile("codex", re.IGNORECASE)


def is_codex(headers: Mapping[str, str]) -> bool:
    return bool(CODEX.match(headers.get("User-Agent", "")))


def may_leave_out_tools(headers: Mapping[str, str]) -> bool:
    """Whether to ignore this request's client tools instead of rejecting the request."""
    return headers.get(TOOLS_HEADER, "").strip().lower() == "ignore" or bool(USER_AGENT.match(headers.get("User-Agent", "")))
