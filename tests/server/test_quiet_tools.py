"""A tool that prints nothing is at work, a CLI that is silent between its tools has hung: cold, warm, resumed, shared and custom alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.client import Answer
from tests.parts.clis import FAKE_COMMAND, FakeCli, do
from tests.parts.native import events, of_type
from tests.parts.processes import eventually
from tests.parts.server import Server
from tests.parts.sessions import begin, resume

LIMITS = {"idle_output_timeout_secs": 1, "log_level": "debug"}
QUIET_TOOL = do(["say", "I build"], ["tool", "make", "made", 2.5], ["say", "it is built"])
HANGS_AFTER_A_TOOL = do(["tool", "make", "made"], ["hang"])
HANGS_IN_A_TOOL = do(["tool", "make", "made", 3600])

TOOL_RULES = [
    {"event": "text", "when": {"type": "text"}, "fields": {"text": "text"}},
    {"event": "tool_call", "when": {"type": "call"}, "fields": {"id": "id", "name": "name", "input": "input"}},
    {"event": "tool_result", "when": {"type": "called"}, "fields": {"id": "id", "output": "output"}},
]


def custom(rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {"command": [*FAKE_COMMAND, "--dialect=jsonl"], "custom": {"output": "jsonl", "rules": rules}}


Ask = Callable[..., Answer]


@contextmanager
def asking(kind: str, server: ServerFactory, cli: FakeCli, **limits: Any) -> Iterator[tuple[Server, Ask]]:
    """A server, and how to ask it for a run of this kind."""
    backends = {
        "cold": {"claude": cli.backend(warm={"max": 0})},
        "warm": {"claude": cli.backend(warm={"max": 2, "min": 1})},
        "resumed": {"claude": cli.backend("--stays", warm={"max": 2}, env=cli.keeping)},
        "shared": {"codex": cli.app_server(warm={"max": 1, "min": 1})},
        "custom": {"mine": custom(TOOL_RULES)},
        "without results": {"mine": custom(TOOL_RULES[:2])},
    }[kind]
    (name,) = backends
    one = server({"default_backend": name, "backends": backends, "server": LIMITS | limits})

    def ask(prompt: str, **fields: Any) -> Answer:
        return one.client.prompt(name, prompt, ephemeral=True, **fields)

    if kind == "resumed":
        id = begin(one.client, name, "hello")
        yield one, lambda prompt, **fields: resume(one.client, id, prompt, **fields)
        assert "goes on with its session" in one.log()
    elif kind in ("warm", "shared"):
        assert eventually(lambda: " waits " in one.log())
        yield one, ask
        assert f"{name}: a run is warm" in one.log()
    else:
        yield one, ask


KINDS = pytest.mark.parametrize("kind", ["cold", "warm", "resumed", "shared", "custom"])


@KINDS
def test_a_tool_that_prints_nothing_for_longer_than_the_idle_limit_is_waited_for(
    server: ServerFactory, fake_cli: FakeCli, kind: str
) -> None:
    with asking(kind, server, fake_cli) as (_, ask):
        answer = ask(QUIET_TOOL)
        assert answer.status == 200, answer.body
        assert answer.json["error"] is None
        assert answer.json["output"].endswith("it is built")


@KINDS
def test_a_cli_that_hangs_between_tools_is_stopped_by_the_idle_limit(server: ServerFactory, fake_cli: FakeCli, kind: str) -> None:
    with asking(kind, server, fake_cli) as (_, ask):
        answer = ask(HANGS_AFTER_A_TOOL)
        assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
        assert "1 s (server.idle_output_timeout_secs) with no tool call open" in answer.json["error"]["message"]


@KINDS
def test_the_time_limit_ends_a_tool_and_names_itself_and_the_tool(server: ServerFactory, fake_cli: FakeCli, kind: str) -> None:
    tool = "shell" if kind == "shared" else "Bash"
    with asking(kind, server, fake_cli) as (_, ask):
        answer = ask(HANGS_IN_A_TOOL, timeout_secs=2)
        assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
        assert f"2 s (the request's timeout_secs) with 1 tool call open ({tool})" in answer.json["error"]["message"]


def test_rules_without_results_leave_a_call_open_until_the_cli_goes_on(server: ServerFactory, fake_cli: FakeCli) -> None:
    with asking("without results", server, fake_cli) as (_, ask), ThreadPoolExecutor() as threads:
        hung = threads.submit(ask, do(["tool", "make", "made"], ["say", "made"], ["hang"]))
        assert ask(QUIET_TOOL).json["error"] is None
        assert hung.result().status == 504


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"server": {"request_timeout_secs": 2}}, "server.request_timeout_secs"),
        ({"server": {}, "unified_flags": {"command_timeout_secs": 2}}, "unified_flags.command_timeout_secs"),
    ],
)
def test_the_setting_that_a_time_limit_comes_from_is_named(
    server: ServerFactory, fake_cli: FakeCli, settings: dict[str, Any], name: str
) -> None:
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}} | settings)
    answer = one.client.prompt("claude", do(["hang"]))
    assert answer.status == 504
    assert f"2 s ({name})" in answer.json["error"]["message"]


def test_a_stream_keeps_its_keep_alives_while_a_tool_is_open(server: ServerFactory, fake_cli: FakeCli) -> None:
    with asking("cold", server, fake_cli, keepalive_secs=0.2) as (one, _):
        with one.client.prompt_stream("claude", QUIET_TOOL, sse=True) as stream:
            raw = stream.response.read()
        between = raw.partition(b"event: tool_use")[2].partition(b"event: tool_result")[0]
        assert between.count(b": keep-alive\n\n") >= 3
        with one.client.prompt_stream("claude", QUIET_TOOL) as stream:
            assert not of_type(events(stream.lines()), "tool_progress")  # not before 30 s
