"""Coding agents as clients (Claude Code, Codex): which requests may bring tools that this server does not hand on. Pure.

A client's own tools are refused, because a program that declares a function waits for it to be called, and would wait for ever.
A coding agent is another case. Its tools read, write and run things in a folder, which the agent behind this server does
with tools of its own; its user wants the work done, by whichever of the two. So its tools are left out and named in
``X-Clinvk-Ignored``. It is known by what it says of itself; any other client may ask for the same with the header.
"""

from __future__ import annotations

import re

from werkzeug.datastructures import Headers

TOOLS_HEADER = "X-Clinvk-Tools"
"""``ignore``: the client's tools are left out, though it is no known coding agent."""

TOOLS_REFUSED = (
    "tools of the client's own are not supported: the agent behind this server uses its own; "
    f"leave `tools` out or empty, or send the header {TOOLS_HEADER}: ignore to have them left out"
)
"""Why the tools of any other client are refused, and what to do."""

USER_AGENT = re.compile(r"(claude-cli|codex[a-z_-]*)/", re.IGNORECASE)
"""Seen of claude 2.1 (``claude-cli/2.1.197 (external, sdk-cli)``) and codex 0.169 (``codex_exec/0.169.0 (…)``, ``codex_cli_rs/…``)."""

CODEX = re.compile("codex", re.IGNORECASE)


def is_codex(headers: Headers) -> bool:
    return bool(CODEX.match(headers.get("User-Agent", "")))


def may_leave_out_tools(headers: Headers) -> bool:
    """Whether the tools of this request may be left out, and be named as ignored, instead of refused."""
    return headers.get(TOOLS_HEADER, "").strip().lower() == "ignore" or bool(USER_AGENT.match(headers.get("User-Agent", "")))
