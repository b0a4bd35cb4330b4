"""A real CLI that is no longer wanted goes, and so does the shell that its tool had started, in whatever session that is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Real
from tests.parts.model_api import Hold, Reply, tokens
from tests.parts.native import events
from tests.parts.processes import PATIENCE_S, command_line, eventually

LIMITS_S = (6, 20, 60)
"""Time limits for a run that must reach its tool first: the next one is for a machine too busy for the one before."""
ENDLESS = "tail -f /dev/null"
"""Claude Code 2.1.332 runs no command that only sleeps for long: "Blocked: standalone sleep 3600"."""


def shells(real: Real) -> list[int]:
    return [pid for pid in real.server.runs() if ENDLESS in command_line(pid)]


def body(real: Real, prompt: str, **fields: object) -> dict[str, object]:
    return {"backend": real.name, "prompt": prompt, "workdir": str(real.workdir), **real.cli.shell_options, **fields}


def wait_in_a_tool(real: Real) -> str:
    real.api.script("wait", Reply(text="", shell=ENDLESS), Reply(text="done"))
    return "wait"


@pytest.mark.smoke
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_client_that_leaves_takes_the_cli_and_its_tool_s_shell_along(real: Real, streams: bool) -> None:
    sent = body(real, wait_in_a_tool(real), output_format="stream-json" if streams else "default")
    with real.server.client.send("POST", "/api/v1/prompt", sent):
        assert eventually(lambda: shells(real)), "the tool's shell has not started"
    assert eventually(lambda: not real.server.runs()), [command_line(pid) for pid in real.server.runs()]


def test_client_that_leaves_while_the_model_is_silent_stops_cli_and_model(real: Real) -> None:
    real.api.script("hang", Reply(hang=True))
    with real.server.client.send("POST", "/api/v1/prompt", body(real, "hang")):
        assert eventually(lambda: real.api.about("hang"))
    assert eventually(lambda: not real.server.runs()), [command_line(pid) for pid in real.server.runs()]
    assert real.api.about("hang")[0].client_left.wait(PATIENCE_S)


def test_client_that_leaves_in_the_middle_of_the_answer_stops_cli_and_model(real: Real) -> None:
    real.api.script("talk", Reply(text=tokens(3), hold=Hold(after=1)))
    with real.server.client.prompt_stream(real.name, "talk", workdir=str(real.workdir)) as stream:
        next(arrival for arrival in stream.lines() if arrival.json["type"] == "message")
    assert eventually(lambda: not real.server.runs()), [command_line(pid) for pid in real.server.runs()]
    assert real.api.about("talk")[0].client_left.wait(PATIENCE_S)


def end_by_time_limit(real: Real, limit_s: float) -> bool:
    """Whether the tool's shell had started when the run was ended."""
    prompt = wait_in_a_tool(real)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(real.server.client.post, "/api/v1/prompt", body(real, prompt, timeout_secs=limit_s))
        eventually(lambda: shells(real) or asked.done(), limit_s + PATIENCE_S)
        started = not asked.done()
        answer = asked.result(limit_s + PATIENCE_S)
    assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
    assert eventually(lambda: not real.server.runs()), [command_line(pid) for pid in real.server.runs()]
    return started


@pytest.mark.smoke
def test_time_limit_ends_the_cli_and_its_tool_s_shell(real: Real) -> None:
    assert any(end_by_time_limit(real, limit_s) for limit_s in LIMITS_S), "the tool's shell has not started within any of the limits"


def test_time_limit_ends_a_stream_with_a_timeout_event(real: Real) -> None:
    real.api.script("hang", Reply(hang=True))
    with real.server.client.prompt_stream(real.name, "hang", workdir=str(real.workdir), timeout_secs=3) as stream:
        last = events(stream.lines())[-1]
    assert (last["type"], last["content"]["code"]) == ("error", "timeout")
