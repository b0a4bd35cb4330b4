"""A tool that takes its CLI down with it has run once, whatever becomes of the run."""

from __future__ import annotations

import pytest

from tests.conftest import Real
from tests.parts.model_api import Reply
from tests.real.test_warm import ready, real, warm_rig, warm_runs  # noqa: F401

FATAL = "echo x >> ran.txt; kill -9 $PPID; sleep 5"


@pytest.mark.parametrize("keeps", [False, True], ids=["ephemeral", "session"])
def test_a_tool_that_kills_its_cli_is_not_run_again(real: Real, keeps: bool) -> None:  # noqa: F811
    fields = {"ephemeral": not keeps, **real.cli.shell_options}
    for number in range(2):
        real.ask(f"hello {number}", **fields)
    ready(real)
    real.api.script("do it", Reply(text="", shell=FATAL), Reply(text="done"))
    before = warm_runs(real)
    answer = real.ask("do it", **fields)
    print(answer, warm_runs(real) - before, len(real.api.about("do it")))
    assert (real.workdir / "ran.txt").read_text() == "x\n"
