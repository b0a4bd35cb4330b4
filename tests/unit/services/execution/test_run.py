"""The loop of one run, without its process."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest

from services.cancellation import CLIENT_GONE, Cancellation
from services.clis.claude import spec as claude
from services.clis.claude.conversation import ClaudeConversation
from services.decoding.decoder import Exit
from services.events import Failed
from services.execution.driver import Limits
from services.execution.run import ProcessRun
from tests.unit.services.clis.invoked import invoked


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_run_that_is_cancelled_before_it_begins_sends_no_prompt(is_cancelled: bool) -> None:
    invocation, cancellation = invoked(claude.SPEC), Cancellation()
    process: Any = MagicMock(breach=None)
    process.read.return_value = b""
    process.wait_exit.return_value = Exit(0)
    if is_cancelled:
        cancellation.cancel(CLIENT_GONE)
    run = ProcessRun(invocation, Limits(), cancellation, ClaudeConversation(invocation, is_initialized=True))
    run.attach(process, None)
    (batch,) = run.batches()
    run.close()
    assert (batch == [CLIENT_GONE]) == is_cancelled
    assert process.send.called == (not is_cancelled)


def test_output_that_passes_both_limits_at_once_is_told_of_the_line_s() -> None:
    """The line is what is wrong: with more output allowed it would be too long all the same."""
    invocation = invoked(claude.SPEC)
    process: Any = MagicMock(breach=None)
    process.read.return_value = b"x" * 200
    run = ProcessRun(invocation, Limits(line_limit_bytes=100, max_output_bytes=100), Cancellation(), ClaudeConversation(invocation))
    run.attach(process, None)
    (batch,) = run.batches()
    run.close()
    (end,) = batch
    assert isinstance(end, Failed)
    assert "server.line_limit_bytes" in end.message
