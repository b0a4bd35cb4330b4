"""A real CLI that is no longer wanted goes, and so does the shell that its tool had started, in whatever session that is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Real
from tests.parts.model_api import Hold, Reply, tokens
from tests.parts.native import events
from tests.parts.processes import command_line, eventually

GONE_WITHIN_S = 3
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
        assert eventually(lambda: shells(real), 20), "the tool's shell has not started"
    assert eventually(lambda: not real.server.runs(), GONE_WITHIN_S), [command_line(pid) for pid in real.server.runs()]


def test_client_that_leaves_while_the_model_is_silent_stops_cli_and_model(real: Real) -> None:
    real.api.script("hang", Reply(hang=True))
    with real.server.client.send("POST", "/api/v1/prompt", body(real, "hang")):
        assert eventually(lambda: real.api.about("hang"), 20)
    assert eventually(lambda: not real.server.runs(), GONE_WITHIN_S), [command_line(pid) for pid in real.server.runs()]
    assert real.api.about("hang")[0].client_left.wait(GONE_WITHIN_S)


def test_client_that_leaves_in_the_middle_of_the_answer_stops_cli_and_model(real: Real) -> None:
    real.api.script("talk", Reply(text=tokens(3), hold=Hold(after=1)))
    with real.server.client.prompt_stream(real.name, "talk", workdir=str(real.workdir)) as stream:
        next(arrival for arrival in stream.lines() if arrival.json["type"] == "message")
    assert eventually(lambda: not real.server.runs(), GONE_WITHIN_S), [command_line(pid) for pid in real.server.runs()]
    assert real.api.about("talk")[0].client_left.wait(GONE_WITHIN_S)


@pytest.mark.smoke
def test_time_limit_ends_the_cli_and_its_tool_s_shell(real: Real) -> None:
    prompt = wait_in_a_tool(real)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(real.server.client.post, "/api/v1/prompt", body(real, prompt, timeout_secs=6))
        assert eventually(lambda: shells(real), 6), "the tool's shell has not started in time"
        answer = asked.result(30)
    assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
    assert eventually(lambda: not real.server.runs(), GONE_WITHIN_S), [command_line(pid) for pid in real.server.runs()]


def test_time_limit_ends_a_stream_with_a_timeout_event(real: Real) -> None:
    real.api.script("hang", Reply(hang=True))
    with real.server.client.prompt_stream(real.name, "hang", workdir=str(real.workdir), timeout_secs=3) as stream:
        last = events(stream.lines())[-1]
    assert (last["type"], last["content"]["code"]) == ("error", "timeout")
