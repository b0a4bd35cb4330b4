"""What the scripted CLI does in a run, and what the caller must therefore be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Steps = list[list[Any]]

LINE_LIMIT_MB = 2
OUTPUT_LIMIT_MB = 3
REQUEST_TIMEOUT_S = 6.0
SILENCE_LIMIT_S = 4.0

STOPPED_WORDS = "was stopped"
UNKNOWN_EXIT = "before it had finished"
"""What is said of a run of which nobody knows how its CLI ended."""
NOT_STARTED = "not started"
"""What is said of a step whose chain has ended before it."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Of one run: it answers exactly ``text``; or, where that is None, it fails with ``code`` and says ``words``."""

    text: str | None = None
    code: str = ""
    words: str = ""


STOPPED = Truth(code="timeout", words=STOPPED_WORDS)
FELLED = tuple(Truth(code="backend_error", words=words) for words in ("SIGKILL", "SIGSEGV", "ended before the turn began"))
"""What those are told whose process was ended by another run in it."""


@dataclass(frozen=True, slots=True)
class Mode:
    """``script`` gives the steps for a token that no other run has."""

    script: Callable[[str], Steps]
    truth: Callable[[str], Truth]
    any_dialect: bool = False
    """Whether it is the same to a CLI that writes plain text."""
    is_mute: bool = False
    """Whether it breaks off before it has said anything: in a warm process it is then told to another one as well."""


def answers(*steps: list[Any], before: str = "", after: str = "", any_dialect: bool = False) -> Mode:
    """These steps, then the token is said; ``before`` and ``after`` are what else of the answer there is."""
    return Mode(lambda token: [*steps, ["say", token]], lambda token: Truth(before + token + after), any_dialect)


def ends(script: Callable[[str], Steps], any_dialect: bool = False) -> Mode:
    """An answer all the same: the token."""
    return Mode(script, Truth, any_dialect)


def fails(script: Callable[[str], Steps], words: str = "", code: str = "backend_error", **more: bool) -> Mode:
    """``words`` empty: the token is among what the caller is told."""
    return Mode(script, lambda token: Truth(code=code, words=words or token), **more)


MANY = " ".join(f"tok{i}" for i in range(400))

GOOD: dict[str, Mode] = {
    "says": answers(any_dialect=True),
    "starts slowly": answers(["wait", 0.4], any_dialect=True),
    "talks slowly": answers(["tokens", 8, 0.05], before=" ".join(f"tok{i}" for i in range(8))),
    "talks fast": answers(["tokens", 400], before=MANY),
    "says half a megabyte": answers(["say", "x" * 500_000], before="x" * 500_000),
    "is noisy on stderr": answers(["stderr_flood", 2], any_dialect=True),
    "has a banner": answers(["write", "Update available!\n"]),
    "uses a tool": Mode(
        lambda token: [["say", "I'll look"], ["tool", "ls", token], ["say", token]], lambda token: Truth(f"I'll look\n\n{token}")
    ),
    "closes stderr": answers(["close_stderr"], any_dialect=True),
    "leaves a stubborn child in a session of its own": answers(["spawn", True, True], any_dialect=True),
    "leaves a child that holds stdout": answers(["spawn", True, True, True]),
    "writes after its last line": ends(lambda token: [["say", token], ["last_line"], ["write", "bye\n"], ["exit", 0]]),
    "kills the spawner": answers(["signal", 9, "spawner"]),
    "stops the spawner": answers(["signal", 19, "spawner"]),
    "leaves a daemon with an empty environment": answers(["daemon", 3600]),
    "removes its run's folder": answers(["remove", "$TMPDIR"]),
    "stays after its last line": ends(lambda token: [["ignore", 15], ["say", token], ["last_line"], ["hang"]]),
}

BAD: dict[str, Mode] = {
    "exits with 3": fails(lambda token: [["stderr", f"the disk is on fire {token}\n"], ["exit", 3]], any_dialect=True, is_mute=True),
    "exits with 4 after text": fails(lambda token: [["say", "hello"], ["stderr", f"broken {token}\n"], ["exit", 4]], any_dialect=True),
    "exits with 0 and no word": fails(lambda _: [["exit", 0]], "exit code 0", is_mute=True),
    "says garbage": fails(lambda token: [["write", f"<html>{token}</html>\n"], ["exit", 0]], is_mute=True),
    "says no text at all": fails(lambda _: [["bytes", "ff00fe0a"], ["exit", 0]], "exit code 0", is_mute=True),
    "says half a line": fails(lambda token: [["say", token], ["write", '{"type":"resu'], ["exit", 0]], "before it had finished"),
    "says half a line and is killed": fails(lambda token: [["say", token], ["write", '{"type'], ["die", 9]], "SIGKILL"),
    "has an empty result": fails(lambda _: [["result"]], "without an answer"),
    "is killed": fails(lambda _: [["die", 9]], "SIGKILL", any_dialect=True, is_mute=True),
    "crashes after text": fails(lambda token: [["say", token], ["die", 11]], "SIGSEGV", any_dialect=True),
    "fails": fails(lambda token: [["fail", f"the model is on strike {token}"]], any_dialect=True),
    "is rate limited": fails(lambda token: [["fail", f"slow down {token}", 429]], code="rate_limit_exceeded"),
    "is overloaded": fails(lambda token: [["fail", f"come back later {token}", 529]], code="backend_overloaded"),
    "is not logged in": fails(lambda token: [["fail", f"who are you {token}", 401]], code="backend_unavailable"),
    "knows no such model": fails(lambda token: [["fail", f"no idea {token}", 404]], code="not_found"),
    "finds the prompt too long": fails(lambda token: [["fail", f"prompt is too long {token}", 400]], code="invalid_request"),
    "kills its supervisor": fails(lambda token: [["say", token], ["signal", 9, "supervisor"], ["hang"]], UNKNOWN_EXIT),
    "kills its supervisor and the spawner": fails(
        lambda token: [["daemon", 3600], ["say", token], ["signal", 9, "supervisor", "spawner"], ["hang"]], UNKNOWN_EXIT
    ),
    "floods": fails(lambda token: [["say", token], ["flood", OUTPUT_LIMIT_MB + 1]], "max_output_bytes"),
    "writes a line without end": fails(lambda _: [["long_line", LINE_LIMIT_MB + 1]], "line_limit_bytes"),
}

STUCK: dict[str, Mode] = {
    "hangs": fails(lambda _: [["hang"]], STOPPED_WORDS, "timeout", any_dialect=True),
    "hangs after text": fails(lambda token: [["say", token], ["hang"]], STOPPED_WORDS, "timeout", any_dialect=True),
    "hangs and ignores everything": fails(
        lambda token: [["ignore", 15], ["ignore", 2], ["say", token], ["hang"]], STOPPED_WORDS, "timeout", any_dialect=True
    ),
    "hangs with children everywhere": fails(
        lambda _: [["spawn"], ["spawn", True], ["spawn", True, True], ["spawn", True, True, True], ["hang"]], STOPPED_WORDS, "timeout"
    ),
    "stops its supervisor": fails(lambda token: [["say", token], ["signal", 19, "supervisor"], ["hang"]], STOPPED_WORDS, "timeout"),
    "stops its supervisor and the spawner": fails(
        lambda token: [["daemon", 3600], ["say", token], ["signal", 19, "supervisor", "spawner"], ["hang"]], STOPPED_WORDS, "timeout"
    ),
    "never stops talking": fails(lambda token: [["say", token], ["tokens", 1_000_000, 0.01]], STOPPED_WORDS, "timeout"),
}

MODES = GOOD | BAD | STUCK

SHARED = {
    *("says", "starts slowly", "talks slowly", "talks fast", "says half a megabyte", "has a banner"),
    *("says half a line and is killed", "is killed", "crashes after text", "fails", "floods", "writes a line without end"),
    *("hangs", "hangs after text", "never stops talking"),
}
"""What the scripted app-server can do. One turn in it that crashes takes the turns of others with it."""
FELLS = {"says half a line and is killed", "is killed", "crashes after text"}


def weight(mode: str, backend: str) -> float:
    """How often it is chosen. Three runs in a row that break mutely switch warm processes off for long, which is not to be the rule."""
    if backend == "codex" and mode not in SHARED:
        return 0.0
    return 0.1 if MODES[mode].is_mute or (backend == "codex" and mode in FELLS) else 1.0
