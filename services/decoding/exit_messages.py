"""The terminal event of a run, from its output and its exit."""

from __future__ import annotations

import re
import signal
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from services.decoding.decoder import Exit
from services.events import Batch, Denial, Failed, Finished, StopReason
from services.failure_kinds import classify, human
from services.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MESSAGE_LIMIT = 2000
DENIALS_LIMIT = 100
TOOL_LIMIT = 128
REASON_LIMIT = 500

# Lines that the CLIs write to stderr in successful runs too (recordings <cli>/*.stderr.txt), and stack frames.
CHATTER = re.compile(
    r"Reading additional input from stdin"
    r"|Warning: (256-color|true color)"
    r"|Ripgrep is not available"
    r"|\[STARTUP\] "
    r"|YOLO mode is enabled"
    r"|(Loaded|Using) cached credentials"
    r"|\s+at "
)


UNKNOWN_EXIT = "the CLI's exit code is unknown: its supervisor was killed, or it did not exit after closing its output"


def finished(
    exit: Exit,
    stop_reason: StopReason = "end_turn",
    usage: Usage | None = None,
    cost_usd: float | None = None,
    structured_output: Any = None,
) -> Finished | Failed:
    """The end of a run whose output is complete. Failed if the exit code is unknown: the CLI may not have completed its work."""
    if exit.code is None and not exit.was_stopped:
        return Failed("backend", UNKNOWN_EXIT, None, usage, cost_usd)
    return Finished(exit.code or 0, stop_reason, usage, cost_usd, structured_output)


def ended_without_result(exit: Exit, noise: str = "", *, status: int | None = None, usage: Usage | None = None) -> Failed:
    """The failure of a run whose process ended too early. ``noise``: its output to stdout outside of the protocol."""
    reason = last_words(exit.stderr_tail) or human(noise)[-MESSAGE_LIMIT:]
    how = _how(exit.code)
    return Failed(kind=classify(reason, status), message=f"{how}: {reason}" if reason else how, exit_code=exit.code, usage=usage)


def with_denials(batch: Batch, denials: Iterable[Denial]) -> Batch:
    """``batch`` with the denials added to its terminal event, which is its last."""
    cut = tuple(Denial(denial.tool[:TOOL_LIMIT], denial.reason[:REASON_LIMIT]) for denial in islice(denials, DENIALS_LIMIT))
    return [*batch[:-1], msgspec.structs.replace(batch[-1], denied_tools=cut)] if cut else batch


def last_words(stderr_tail: str) -> str:
    """The error text in stderr, without colours, routine messages and stack traces."""
    lines = (line.rstrip() for line in ANSI.sub("", stderr_tail).splitlines())
    return human("\n".join(line for line in lines if line and not CHATTER.match(line)))[-MESSAGE_LIMIT:]


def _how(code: int | None) -> str:
    if code is None:
        return "the CLI was stopped before it had finished"
    if code == 0:
        return "the CLI ended before it had finished its answer, though with exit code 0"
    if code > 128 and code - 128 in SIGNALS:
        return f"the CLI was ended by {SIGNALS[code - 128]} before it had finished"
    return f"the CLI failed with exit code {code}"


SIGNALS = {number: signal.Signals(number).name for number in (1, 2, 3, 4, 6, 7, 8, 9, 11, 13, 15)}
