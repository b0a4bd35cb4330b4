"""`/api/v1/prompt`, answered by the real Claude Code, Codex and Gemini CLI, which ask the fake model API."""

from __future__ import annotations

import pytest

from tests.conftest import Real
from tests.parts.model_api import Hold, Reply, tokens
from tests.parts.native import events, of_type, text

SAID = [*tokens(5), " é漢字🙂", " \u2028end"]


def test_answer_is_what_the_model_said(real: Real) -> None:
    real.api.script("the question", Reply(text=SAID))
    answer = real.ask("the question")
    assert (answer["output"], answer["exit_code"], answer["error"]) == ("".join(SAID), 0, None)
    assert answer["backend"] == real.name
    assert len(real.api.about("the question")) == 1


@pytest.mark.smoke
def test_usage_is_what_the_model_api_reported(real: Real) -> None:
    real.api.script("count", Reply(input_tokens=1000, cached_tokens=234, output_tokens=56))
    usage = real.ask("count")["token_usage"]
    assert (usage["input_tokens"], usage["cached_tokens"], usage["output_tokens"]) == (1234, 234, 56)


def test_model_of_the_request_is_the_one_that_is_asked(real: Real) -> None:
    other = {"claude": "claude-haiku-4-5", "codex": "gpt-5-mini", "gemini": "gemini-2.5-pro"}[real.name]
    real.api.script("who are you")
    real.ask("who are you", model=other)
    assert [exchange.model for exchange in real.api.about("who are you")] == [other]


@pytest.mark.smoke
def test_system_prompt_reaches_the_model_as_the_system_s_and_not_the_user_s(real: Real) -> None:
    real.api.script("hello")
    real.ask("hello", system_prompt='Speak like a "pirate".\n--help')
    (exchange,) = real.api.about("hello")
    assert 'Speak like a "pirate".\n--help' in exchange.system_text
    assert not any("pirate" in said for said in exchange.user_texts)


@pytest.mark.smoke
@pytest.mark.parametrize(("count", "sse"), [(1, True), (50, False), (2000, False), (2000, True)])
def test_stream_loses_and_doubles_nothing(real: Real, count: int, sse: bool) -> None:
    said = [*tokens(count), " é漢字🙂", " \u2028end"]
    real.api.script("talk", Reply(text=said, input_tokens=1000, cached_tokens=234, output_tokens=56))
    with real.server.client.prompt_stream(real.name, "talk", sse=sse, workdir=str(real.workdir)) as stream:
        assert stream.status == 200
        found = events(stream.events() if sse else stream.lines())
    assert text(found) == "".join(said)
    assert found[0]["type"] == "init"
    assert found[-1]["type"] == "done"
    assert found[-1]["content"]["token_usage"]["input_tokens"] == 1234
    assert found[-1]["content"]["token_usage"]["output_tokens"] == 56


@pytest.mark.parametrize("sse", [False, True], ids=["ndjson", "sse"])
def test_each_token_arrives_before_the_model_says_the_next(real: Real, sse: bool) -> None:
    hold = Hold(after=1)
    real.api.script("slowly", Reply(text=tokens(5), hold=hold))
    with real.server.client.prompt_stream(real.name, "slowly", sse=sse, workdir=str(real.workdir)) as stream:
        messages = (arrival.json for arrival in (stream.events() if sse else stream.lines()) if arrival.json["type"] == "message")
        for number, token in enumerate(tokens(5)):
            message = next(messages)
            assert (message["content"], message["is_partial"]) == (token, True)
            assert real.api.about("slowly")[0].tokens_sent == number + 1
            hold.release(1)
        assert [message["content"] for message in messages if message["content"]] == []


@pytest.mark.smoke
def test_tool_call_is_told_with_its_result(real: Real) -> None:
    (real.workdir / "found.txt").write_text("what the shell saw")
    real.api.script("look", Reply(text="", shell="cat found.txt"), Reply(text="I have seen it"))
    with real.server.client.prompt_stream(real.name, "look", workdir=str(real.workdir), **real.cli.shell_options) as stream:
        found = events(stream.lines())
    (used,), (result,) = of_type(found, "tool_use"), of_type(found, "tool_result")
    assert "cat found.txt" in str(used["content"]["input"])
    assert used["content"]["name"]
    assert result["content"]["id"] == used["content"]["id"]
    assert "what the shell saw" in result["content"]["output"]
    assert result["content"]["is_error"] is False
    assert text(found) == "I have seen it"
    kinds = [event["type"] for event in found]
    assert kinds.index("tool_use") < kinds.index("tool_result") < kinds.index("message")


@pytest.mark.smoke
def test_wrong_key_of_the_vendor_is_told_as_not_logged_in(real: Real) -> None:
    real.api.script("let me in", Reply(status=401, message="the key is not right"))
    answer = real.server.client.prompt(real.name, "let me in", workdir=str(real.workdir))
    assert (answer.status, answer.json["error"]["code"]) == (503, "backend_unavailable")
    assert "the key is not right" in answer.json["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.smoke
def test_rate_limit_of_the_vendor_is_the_result_of_the_run(real: Real) -> None:
    real.api.script("once more", Reply(status=429, message="Rate limit: slow down", retry_after_s=7))
    answer = real.ask("once more")
    assert answer["exit_code"] not in (0, None)
    assert "Rate limit: slow down" in answer["error"] or "429 Too Many Requests" in answer["error"]
    assert answer["output"] == ""


def test_rate_limit_of_the_vendor_ends_a_stream_with_its_code(real: Real) -> None:
    real.api.script("once more", Reply(status=429, message="Rate limit: slow down"))
    with real.server.client.prompt_stream(real.name, "once more", workdir=str(real.workdir)) as stream:
        last = events(stream.lines())[-1]
    assert (last["type"], last["content"]["code"]) == ("error", "rate_limit_exceeded")


@pytest.mark.smoke
def test_answer_that_breaks_off_is_an_error_with_no_text_doubled(real: Real) -> None:
    real.api.script("break off", Reply(text=tokens(10), fail_after=5))
    with real.server.client.prompt_stream(real.name, "break off", workdir=str(real.workdir)) as stream:
        found = events(stream.lines())
    assert found[-1]["type"] == "error"
    assert "".join(tokens(5)).startswith(text(found))


def test_unknown_model_is_told_as_one(real: Real) -> None:
    real.api.script("hello", Reply(status=404, message="model: no-such-model"))
    with real.server.client.prompt_stream(real.name, "hello", model="no-such-model", workdir=str(real.workdir)) as stream:
        last = events(stream.lines())[-1]
    assert (last["type"], last["content"]["code"]) == ("error", "not_found")
