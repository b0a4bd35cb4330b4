"""`/api/v1/prompt` on the scripted CLI: many at once, each its own answer; and nothing grows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.native import events, of_type, text
from tests.parts.processes import eventually, open_fds, rss_bytes
from tests.parts.server import Server

MANY = 200
AT_A_TIME = 24
GROWTH_BYTES = 16 << 20
"""What the allocator may keep after a burst; the answers of one that leaks are many times that."""


def test_answer_is_the_cli_s_text_with_its_numbers(fake_server: Server) -> None:
    answer = fake_server.client.prompt("claude", do(["say", "hello "], ["say", "world"])).json
    assert answer["output"] == "hello world"
    assert answer["exit_code"] == 0
    assert not answer["error"]
    assert answer["backend"] == "claude"
    assert answer["token_usage"]["input_tokens"] == 16
    assert answer["token_usage"]["cached_tokens"] == 5
    assert answer["token_usage"]["output_tokens"] == 7
    assert answer["cost_usd"] == 0.25


def test_two_hundred_prompts_at_once_each_get_their_own_answer_and_nothing_grows(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"backends": {"claude": fake_cli.backend()}, "server": {"max_concurrent_runs": AT_A_TIME, "max_queued_runs": MANY}})

    def ask(number: int) -> str:
        return str(one.client.prompt("claude", do(["say", f"I am {number}. "], ["tokens", 20, 0.001])).json["output"])

    def burst() -> None:
        with ThreadPoolExecutor(MANY) as pool:
            answers = list(pool.map(ask, range(MANY)))
        tokens = "".join(f"{' ' if i else ''}tok{i}" for i in range(20))
        assert answers == [f"I am {number}. {tokens}" for number in range(MANY)]
        assert eventually(lambda: not one.runs())

    def serving() -> list[int]:
        return [pid for pid in one.own() if one.is_server(pid)]

    def descriptors() -> int:
        return sum(map(open_fds, serving()))

    ask(0)
    before = descriptors()
    burst()
    memory = sum(map(rss_bytes, serving()))
    burst()
    assert eventually(lambda: descriptors() <= before), f"{before} descriptors before, {descriptors()} after"
    assert sum(map(rss_bytes, serving())) < memory + GROWTH_BYTES
    assert len(one.own()) <= 2 * AT_A_TIME, "the processes that watch over runs are as many as there were runs at a time"


@pytest.mark.parametrize("sse", [False, True], ids=["ndjson", "sse"])
@pytest.mark.parametrize("count", [1, 50, 2000])
def test_stream_has_the_same_text_as_the_cli(fake_server: Server, count: int, sse: bool) -> None:
    with fake_server.client.prompt_stream("claude", do(["tokens", count], ["say", " é漢字🙂\u2028end"]), sse=sse) as stream:
        assert stream.headers["content-type"].split(";")[0] == ("text/event-stream" if sse else "application/x-ndjson")
        found = events(stream.events() if sse else stream.lines())
    assert text(found) == "".join(f"{' ' if i else ''}tok{i}" for i in range(count)) + " é漢字🙂\u2028end"
    assert found[0]["type"] == "init"
    assert found[-1]["type"] == "done"


def test_sse_names_and_numbers_its_events(fake_server: Server) -> None:
    with fake_server.client.prompt_stream("claude", do(["tokens", 3]), sse=True) as stream:
        arrivals = list(stream.events())
    assert [arrival.name for arrival in arrivals] == [arrival.json["type"] for arrival in arrivals]
    assert len({arrival.id for arrival in arrivals}) == len(arrivals)


def test_tool_call_is_told_as_events(fake_server: Server) -> None:
    with fake_server.client.prompt_stream("claude", do(["say", "I look."], ["tool", "ls", "a.txt"], ["say", "Found."])) as stream:
        found = events(stream.lines())
    (used,), (result,) = of_type(found, "tool_use"), of_type(found, "tool_result")
    assert (used["content"]["name"], used["content"]["input"]) == ("Bash", {"command": "ls"})
    assert result["content"]["output"] == "a.txt"
    assert text(found) == "I look.\n\nFound."


def test_dry_run_starts_nothing_and_tells_the_argv(fake_server: Server, fake_cli: FakeCli) -> None:
    answer = fake_server.client.prompt("claude", "hello", dry_run=True, model="some-model")
    assert answer.status == 200
    assert "--model=some-model" in str(answer.json)
    assert fake_cli.reports() == []


def test_cli_gets_the_prompt_on_stdin_and_none_of_the_server_s_variables(fake_server: Server, fake_cli: FakeCli) -> None:
    prompt = "--help me with\nthis: é"
    assert fake_server.client.prompt("claude", prompt, workdir=str(fake_server.workdir)).json["output"].strip().endswith(prompt)
    (report,) = fake_cli.reports()
    assert not any(prompt in arg for arg in report["argv"])
    assert not [name for name in report["env"] if name.startswith(("CLINVK_", "PYTHON")) and name != "CLINVK_DEPTH"]
    assert report["cwd"] == str(fake_server.workdir)


def test_prompt_of_megabytes_reaches_the_cli_whole(fake_server: Server, fake_cli: FakeCli) -> None:
    prompt = "é0123456789" * 300_000
    assert prompt in fake_server.client.prompt("claude", prompt).json["output"]


@pytest.mark.parametrize("ephemeral", [True, False])
def test_ephemeral_run_asks_the_cli_to_keep_nothing(fake_server: Server, fake_cli: FakeCli, ephemeral: bool) -> None:
    assert fake_server.client.prompt("claude", "hello", ephemeral=ephemeral).status == 200
    (report,) = fake_cli.reports()
    assert ("--no-session-persistence" in report["argv"]) is ephemeral
