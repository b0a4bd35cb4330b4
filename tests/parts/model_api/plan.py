"""Scripted answers: `Reply` is one answer, `Script` the answers of one conversation. Independent of the dialect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Hold:
    """A gate inside a stream: the API sends ``after`` tokens, then one more for every `release`.

    A test can thus prove that a token arrived before the next one was sent, without timing.
    """

    def __init__(self, after: int) -> None:
        self.allowed = after

    def release(self, count: int = 1_000_000) -> None:
        self.allowed += count


@dataclass(frozen=True)
class McpCall:
    """A call of an MCP server's tool. Each CLI gives the tool a name of its own."""

    server: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer of the model. ``text`` may be a string (sent as one token) or the list of its tokens."""

    text: str | list[str] = "ok"
    thinking: list[str] = field(default_factory=list)
    shell: str | None = None
    """A command for the CLI's own shell tool, instead of the text."""
    write: tuple[str, str] | None = None
    """Path and text of a file for Claude Code's tool that writes files, instead of the text."""
    mcp: McpCall | None = None
    """A call of an MCP server's tool, instead of the text."""
    patience_ms: int = 10_000
    """How long Codex waits for the command before it asks the model again (its default is 10 s)."""
    delay_s: float = 0.0
    """Pause before every token except the first."""
    hold: Hold | None = None
    input_tokens: int = 100
    """Uncached input tokens; dialects that include cached tokens report the sum."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    """Tokens written to the cache, in the dialect that reports them."""
    output_tokens: int = 7
    """Output tokens without thinking; dialects that include thinking report the sum."""
    reasoning_tokens: int = 0
    status: int = 200
    message: str = "the fake model API was told to fail"
    error: Mapping[str, Any] | None = None
    """The body of the error, where it is not the dialect's with the message."""
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of the HTTP response, besides the usual ones."""
    cut_after: int | None = None
    """Drop the connection after so many tokens."""
    fail_after: int | None = None
    """Send the dialect's error event after so many tokens."""
    hang: bool = False
    """Accept the request and send nothing until the client disconnects."""

    @property
    def pieces(self) -> list[str]:
        return [self.text] if isinstance(self.text, str) else self.text

    @property
    def whole(self) -> str:
        return "".join(self.pieces)


class Script:
    """Answers to a conversation with ``match`` in a user text: reply k follows k tool results."""

    def __init__(self, match: str, replies: tuple[Reply, ...], dialect: str = "") -> None:
        """``dialect``: of the only CLI that is answered so; empty for all."""
        self.match = match
        self.dialect = dialect
        self.replies = replies

    def reply(self, results: int) -> Reply:
        return self.replies[min(results, len(self.replies) - 1)]


def tokens(count: int, word: str = "tok") -> list[str]:
    """``count`` distinct tokens, so that a lost, duplicated or reordered one shows in the joined text."""
    return [f"{' ' if i else ''}{word}{i}" for i in range(count)]
