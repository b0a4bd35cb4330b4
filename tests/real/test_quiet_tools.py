"""The real CLIs run a tool that prints nothing for longer than the idle limit, and answer: in a process of the run's own, a warm one, a session's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.native import events, of_type
from tests.parts.processes import eventually
from tests.parts.server import Server
from tests.parts.sessions import begin, resume_stream

IDLE_S = 12
"""A CLI that starts on a busy machine is silent for some seconds."""
QUIET_S = 15

EVERY = pytest.mark.parametrize(
    "name",
    [
        pytest.param("claude", marks=pytest.mark.real_cli),
        *(pytest.param(name, marks=[pytest.mark.real_cli, pytest.mark.long]) for name in ("codex", "gemini")),
    ],
)


def start(server: ServerFactory, api: FakeModelApi, folder: Path, name: str) -> Server:
    """A server as it is by default, but for the idle limit and that its CLI asks nothing."""
    require(name)
    cli = real_cli_in(folder / name, name, api.url)
    backend = {key: value for key, value in cli.backend.items() if key != "warm"}
    config = {
        "default_backend": name,
        "backends": {name: backend},
        "unified_flags": {"approval_mode": "none"},
        "server": {"idle_output_timeout_secs": IDLE_S, "log_level": "debug"},
    }
    return server(config, env={**cli.env, **NO_WAY_OUT, "PATH": cli_path()})


def uses_a_quiet_tool(api: FakeModelApi, prompt: str) -> None:
    api.script(prompt, Reply(text="", shell=f"sleep {QUIET_S}; echo it is built", patience_ms=30_000), Reply(text="I have seen it"))


def seen(found: list[dict[str, Any]]) -> None:
    assert found[-1]["type"] == "done", found[-1]
    assert "it is built" in of_type(found, "tool_result")[-1]["content"]["output"]
    assert "I have seen it" in "".join(event["content"] for event in of_type(found, "message"))


@EVERY
def test_a_quiet_tool_is_waited_for_cold_warm_and_resumed(
    server: ServerFactory, model_api: FakeModelApi, tmp_path: Path, name: str
) -> None:
    one = start(server, model_api, tmp_path, name)

    def ask(prompt: str) -> None:
        uses_a_quiet_tool(model_api, prompt)
        with one.client.prompt_stream(name, prompt, ephemeral=True) as stream:
            seen(events(stream.lines()))

    id = begin(one.client, name, "begin")
    uses_a_quiet_tool(model_api, "build it again")
    with ThreadPoolExecutor() as threads:
        resumed = threads.submit(resume_stream, one.client, id, "build it again")
        ask("build it cold")  # of another kind than the session, so nothing waits for it
        seen(resumed.result())
    for prompt in ("hello", "hello again"):
        one.client.prompt(name, prompt, ephemeral=True)
    assert eventually(lambda: " waits " in one.log())
    warm_before = one.log().count(f"{name}: a run is warm")
    ask("build it warm")
    assert one.log().count(f"{name}: a run is warm") == warm_before + 1
