"""Real CLIs as MCP clients of the server that started them: they ask another agent, and use its answer."""

from __future__ import annotations

import pytest

from tests.parts.clis import require
from tests.parts.model_api import McpCall, Reply
from tests.parts.processes import eventually
from tests.real.mcp.conftest import NAME, Agents, pairs

QUESTION, OPINION, USED = "a second question", "a second opinion", "I have read it"


def asks(agents: Agents, task: str, backend: str, prompt: str, tool: str = "prompt") -> None:
    """Whoever gets ``task`` asks ``backend`` with ``prompt``, and then answers."""
    agents.api.script(
        task, Reply(mcp=McpCall(NAME, tool, {"backend": backend, "prompt": prompt, "approval_mode": "none"})), Reply(text=USED)
    )


def results(agents: Agents, task: str) -> list[str]:
    """What the tools told those who got ``task``."""
    return [text for exchange in agents.api.about(task) for text in exchange.tool_results]


@pytest.mark.parametrize(("one", "other"), pairs(("claude", "codex"), ("codex", "claude"), ("gemini", "codex")))
def test_one_asks_another_within_a_task_and_uses_the_answer(agents: Agents, one: str, other: str) -> None:
    require(one)
    require(other)
    task = f"{one} asks {other}"
    asks(agents, task, other, QUESTION)
    agents.api.script(QUESTION, Reply(text=OPINION))
    answer = agents.ask(one, task)
    assert (answer["error"], answer["output"]) == (None, USED)
    assert any(OPINION in told for told in results(agents, task)), results(agents, task)
    sessions = agents.server.client.get("/api/v1/sessions?limit=2").json["sessions"]
    assert {session["backend"] for session in sessions} == {one, other}


@pytest.mark.parametrize(("one", "other"), pairs(("claude", "codex"), ("codex", "claude")))
def test_a_loop_ends_at_the_depth_limit_in_words(agents: Agents, one: str, other: str) -> None:
    """``one`` asks ``other``, which asks ``one`` again: the third is refused, and both answer."""
    require(one)
    require(other)
    asks(agents, "the first task", other, "the next task")
    asks(agents, "the next task", one, "the last task")
    assert agents.ask(one, "the first task")["output"] == USED
    assert any("server.mcp_max_depth" in told and "yourself" in told for told in results(agents, "the next task"))
    assert any(USED in told for told in results(agents, "the first task"))
    assert not agents.api.about("the last task")


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(one, marks=pytest.mark.real_cli)
        for (one, _) in (param.values for param in pairs(("claude", "codex"), ("codex", "claude")))
    ],
)
def test_what_it_asked_for_ends_with_it(agents: Agents, one: str) -> None:
    """The client leaves while the agent waits for the other one: both trees are gone."""
    require(one)
    other = {"claude": "codex", "codex": "claude"}[one]
    require(other)
    asks(agents, "wait for it", other, QUESTION)
    agents.api.script(QUESTION, Reply(hang=True))
    options = {"approval_mode": "none", **agents.clis[one].shell_options}
    with agents.server.client.prompt_stream(one, "wait for it", workdir=str(agents.workdir), **options) as stream:
        next(stream.lines())
        assert eventually(lambda: agents.api.about(QUESTION), within_s=60)
    assert eventually(lambda: not agents.server.runs())
