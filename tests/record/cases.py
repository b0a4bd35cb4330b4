"""What is recorded: for each case what a CLI is started with, and what the fake model API answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import time

from tests.parts.model_api import Reply, tokens

PROMPT = "hello"
FIVE = Reply(text=tokens(5), output_tokens=5)


@dataclass(frozen=True, kw_only=True)
class Case:
    args: tuple[str, ...] = ()
    """After those that every case of the CLI has."""
    replies: tuple[Reply, ...] = (FIVE,)
    is_stream: bool = True
    """With the arguments that make the CLI write its events."""
    first: str = ""
    """A case that runs before it in the same home, without being recorded."""
    env: Mapping[str, str] = field(default_factory=dict)


CACHED = replace(FIVE, input_tokens=10, cached_tokens=90, cache_write_tokens=7)
THINKS = Reply(thinking=["hmm0", " hmm1", " hmm2"], text=tokens(8), output_tokens=8, reasoning_tokens=3)
TOOL = (Reply(shell="echo hi"), Reply(text=["first", " second", " third"]))
NOW = int(time())
RESETS_AT = {"five_hour": NOW + 3_600, "seven_day": NOW + 3 * 86_400}
"""Claude Code 2.1.332 leaves out windows whose reset is further away than they are long."""


def anthropic_plan(status: str, used: float) -> dict[str, str]:
    """The headers of Anthropic's model API for an account with a subscription (names from claude 2.1.332's program)."""
    headers = {"status": status, "reset": str(RESETS_AT["five_hour"]), "representative-claim": "five_hour"}
    windows = {"5h": (status, used, RESETS_AT["five_hour"]), "7d": ("allowed", 0.11, RESETS_AT["seven_day"])}
    for name, facts in windows.items():
        headers |= {f"{name}-{key}": str(value) for key, value in zip(("status", "utilization", "reset"), facts, strict=True)}
    return {f"anthropic-ratelimit-unified-{name}": value for name, value in headers.items()}


BY_SUBSCRIPTION = {"ANTHROPIC_API_KEY": "", "CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-fake"}
MISSING = "99999999-2222-4333-8444-555555555555"
SESSION = "11111111-2222-4333-8444-555555555555"


def fails(status: int) -> tuple[Reply, ...]:
    return (Reply(status=status, message=f"fake upstream says {status}"),)


BASE: Mapping[str, tuple[str, ...]] = {
    "claude": ("-p", "--model=claude-sonnet-4-5"),
    "codex": ("exec", "--skip-git-repo-check", "--model=gpt-5"),
    "gemini": ("--model=gemini-2.5-flash",),
}
STREAM: Mapping[str, tuple[str, ...]] = {
    "claude": ("--output-format=stream-json", "--verbose", "--include-partial-messages"),
    "codex": ("--json",),
    "gemini": ("--output-format=stream-json",),
}
BREAKS_OFF = Case(replies=(Reply(text=tokens(6), fail_after=3, message="fake failure"),))

CASES: Mapping[str, Mapping[str, Case]] = {
    "claude": {
        "partial": Case(args=("--session-id=70f18ad9-0162-4499-98c6-461bf1ca5ea0",), replies=(THINKS,)),
        "partial-tool": Case(args=("--allowedTools=Bash",), replies=TOOL),
        "json": Case(args=("--output-format=json",), replies=(CACHED,), is_stream=False),
        "text": Case(is_stream=False),
        "stream-json": Case(args=("--output-format=stream-json", "--verbose"), is_stream=False),
        "max-turns": Case(args=("--max-turns=1", "--allowedTools=Bash"), replies=(Reply(shell="echo hi", output_tokens=5),)),
        "session-id": Case(args=(f"--session-id={SESSION}",)),
        "resume": Case(args=(f"--resume={SESSION}",), first="session-id"),
        "resume-missing": Case(args=(f"--resume={MISSING}",)),
        "err-400": Case(replies=fails(400)),
        "err-401": Case(replies=fails(401)),
        "err-429-retries0": Case(replies=fails(429)),
        "err-429-retries1": Case(replies=fails(429), env={"CLAUDE_CODE_MAX_RETRIES": "1"}),
        "plan": Case(replies=(replace(FIVE, headers=anthropic_plan("allowed", 0.42)),), env=BY_SUBSCRIPTION),
        "plan-rejected": Case(replies=(Reply(status=429, headers=anthropic_plan("rejected", 1)),), env=BY_SUBSCRIPTION),
        "midstream-error-nofallback": Case(replies=(Reply(text=tokens(6), fail_after=3, message="Overloaded"),)),
    },
    "codex": {
        "json": Case(replies=(replace(CACHED, output_tokens=8, reasoning_tokens=12),)),
        "text": Case(is_stream=False),
        # Not in its sandbox: that needs a helper which Codex makes in no temporary folder.
        "tool-exec": Case(args=("--sandbox=danger-full-access",), replies=TOOL),
        "resume": Case(args=("resume", "--last", "-"), first="text"),
        "resume-missing": Case(args=("resume", MISSING, "-")),
        "err-400": Case(replies=fails(400)),
        "err-401": Case(replies=fails(401)),
        "err-429-default": Case(replies=fails(429)),
        "midstream-failed": BREAKS_OFF,
    },
    "gemini": {
        "stream": Case(replies=(THINKS,)),
        "stream-json": Case(replies=(replace(CACHED, output_tokens=20, reasoning_tokens=12),)),
        "json": Case(args=("--output-format=json",), replies=(replace(CACHED, output_tokens=20, reasoning_tokens=12),), is_stream=False),
        "text": Case(is_stream=False),
        "tool-yolo": Case(args=("--approval-mode=yolo",), replies=TOOL),
        "resume-missing": Case(args=(f"--resume={MISSING}",)),
        "err-400": Case(replies=fails(400)),
        "err-401": Case(replies=fails(401)),
        "err-429-maxattempts1": Case(replies=fails(429)),
        "midstream-error": BREAKS_OFF,
    },
}
