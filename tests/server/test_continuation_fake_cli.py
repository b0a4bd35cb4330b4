"""`server.continue_conversations` on the scripted CLI: what goes on in a session, what is told in full, and that nothing piles up."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do, told
from tests.parts.processes import eventually
from tests.parts.server import Server

Message = dict[str, Any]

ON = {"continue_conversations": True}
ADA, BOB = {"Authorization": "Bearer key-of-ada-0123456789"}, {"Authorization": "Bearer key-of-bob-0123456789"}
KEYS = {"api_keys": ["ada=key-of-ada-0123456789", "bob=key-of-bob-0123456789"]}


def user(text: Any) -> Message:
    return {"role": "user", "content": text}


class Talk:
    """A client that repeats all that was said, on one of the surfaces."""

    def __init__(self, server: Server, surface: str = "chat", stream: bool = False, headers: dict[str, str] | None = None, **more: Any):
        self.server, self.surface, self.stream, self.headers, self.more = server, surface, stream, headers, more
        self.messages: list[Message] = []

    def say(self, text: Any) -> str:
        self.messages.append(user(text))
        answer = self.ask(self.messages)
        self.messages.append({"role": "assistant", "content": answer})
        return answer

    def ask(self, messages: list[Message]) -> str:
        path = "/openai/v1/chat/completions" if self.surface == "chat" else "/anthropic/v1/messages"
        body = {"model": "claude", "messages": messages, "max_tokens": 100, "stream": self.stream, **self.more}
        if self.stream:
            with self.server.client.open("POST", path, body, self.headers) as stream:
                frames = [event.json for event in stream.events() if event.data != "[DONE]"]
            if self.surface == "chat":
                return "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame["choices"])
            return "".join(frame["delta"].get("text", "") for frame in frames if frame["type"] == "content_block_delta")
        answer = self.server.client.ask("POST", path, body, self.headers)
        assert answer.status == 200, answer.body
        return str(answer.json["choices"][0]["message"]["content"] if self.surface == "chat" else answer.json["content"][0]["text"])


Start = Callable[..., Server]


@pytest.fixture
def start(server: ServerFactory, fake_cli: FakeCli) -> Start:
    shutil.rmtree(fake_cli.folder, ignore_errors=True)

    def start(**settings: Any) -> Server:
        return server({"backends": {"claude": fake_cli.backend(env=fake_cli.keeping)}, "server": {**ON, **settings}})

    return start


def prompts(cli: FakeCli, about: str) -> list[tuple[str, bool]]:
    """Of the processes that were told of it: the prompt, and whether they resumed a session."""
    told = [report for report in cli.reports() if about in report["prompt"]]
    return [(report["prompt"], any(arg.startswith("--resume=") for arg in report["argv"])) for report in told]


def is_in_full(cli: FakeCli, last: str) -> bool:
    (found,) = [report for report in cli.reports() if last in report["prompt"]]
    return bool(found["history"]) and not any(arg.startswith("--resume=") for arg in found["argv"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("surface", ["chat", "messages"])
def test_each_next_message_is_told_alone_to_the_session_that_knows_the_rest(
    start: Start, fake_cli: FakeCli, surface: str, stream: bool
) -> None:
    talk = Talk(start(), surface, stream)
    assert [talk.say(text) for text in ("one?", "two?", "three?")] == [f"You said: {text}" for text in ("one?", "two?", "three?")]
    assert {*prompts(fake_cli, "?")} == {("one?", False), ("two?", True), ("three?", True)}
    assert len(fake_cli.transcripts) == 1
    assert fake_cli.transcripts[0].read_text().count("?") == 6


def test_it_is_off_unless_asked_for(start: Start, fake_cli: FakeCli) -> None:
    talk = Talk(start(continue_conversations=False))
    talk.say("one?")
    talk.say("two?")
    assert is_in_full(fake_cli, "two?")
    assert not fake_cli.transcripts
    assert all("--no-session-persistence" in report["argv"] for report in fake_cli.reports())


def test_content_may_come_back_in_parts_with_nulls(start: Start, fake_cli: FakeCli) -> None:
    talk = Talk(start())
    talk.say([{"type": "text", "text": "one?"}])
    answer = talk.messages[-1]["content"]
    talk.messages[0] = user("one?")
    talk.messages[-1] = {"role": "assistant", "content": [{"type": "text", "text": answer}], "refusal": None, "tool_calls": None}
    talk.say("two?")
    assert prompts(fake_cli, "two?") == [("two?", True)]


CHANGES: dict[str, Callable[[Talk], None]] = {
    "an edited question": lambda talk: talk.messages.__setitem__(0, user("one? ")),
    "an edited answer": lambda talk: talk.messages[1].update(content="You said: one"),
    "a missing turn": lambda talk: talk.messages.__delitem__(slice(0, 2)),
    "another system prompt": lambda talk: talk.messages.insert(0, {"role": "system", "content": "Be kind."}),
    "another model": lambda talk: talk.more.update(model="claude/opus"),
    "another folder": lambda talk: talk.__setattr__("headers", {**ADA, "X-Clinvk-Workdir": "/opt"}),
    "another key": lambda talk: talk.__setattr__("headers", BOB),
    "another surface's format": lambda talk: talk.more.update(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_the_same_is_told_in_full(start: Start, fake_cli: FakeCli, change: str) -> None:
    one = start(**KEYS)
    talk = Talk(one, headers=ADA)
    talk.say("one?")
    talk.say("two?")
    same = Talk(one, headers=ADA)
    same.messages = [dict(message) for message in talk.messages]
    CHANGES[change](talk)
    talk.say("three?")
    assert is_in_full(fake_cli, "three?")
    same.say("four?")  # and the session still waits for the one that fits
    assert prompts(fake_cli, "four?") == [("four?", True)]


def test_of_two_branches_the_second_is_told_in_full(start: Start, fake_cli: FakeCli) -> None:
    talk = Talk(start())
    talk.say("one?")
    until_here = list(talk.messages)
    talk.say("left?")
    talk.messages = until_here
    talk.say("right?")
    assert prompts(fake_cli, "left?") == [("left?", True)]
    assert is_in_full(fake_cli, "right?")
    talk.say("further?")
    assert prompts(fake_cli, "further?") == [("further?", True)]


@pytest.mark.parametrize("surface", ["chat", "messages"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_session_that_the_cli_lost_is_told_in_full_once(start: Start, fake_cli: FakeCli, stream: bool, surface: str) -> None:
    talk = Talk(start(), surface, stream)
    talk.say("one?")
    fake_cli.transcripts[0].unlink()
    talk.say("two?")
    assert [["one?" in told(report) for report in fake_cli.reports() if "two?" in report["prompt"]].count(True)] == [1]
    assert sorted(resumed for _, resumed in prompts(fake_cli, "two?")) == [False, True]
    talk.say("three?")
    assert prompts(fake_cli, "three?") == [("three?", True)]
    assert len(fake_cli.transcripts) == 1


NOT_WHOLE = {
    "failed": (do(["say", "so far"], ["fail", "it broke", 500], about="one?"), {}),
    "cut at a stop sequence": (do(["say", "so far STOP and on"], about="one?"), {"stop": ["STOP"]}),
    "without a word": (do(["tool", "ls", "x"], ["result"], about="one?"), {}),
}


@pytest.mark.parametrize("how", NOT_WHOLE)
def test_an_answer_that_is_not_whole_is_no_start_for_another(start: Start, fake_cli: FakeCli, how: str) -> None:
    prompt, more = NOT_WHOLE[how]
    one = start()
    messages = [user(prompt)]
    for more_said in ([], [{"role": "assistant", "content": "so far "}, user("two?")]):
        messages += more_said
        one.client.post("/openai/v1/chat/completions", {"model": "claude", "messages": messages, **more})
    assert is_in_full(fake_cli, "two?")
    assert eventually(lambda: len(fake_cli.transcripts) == 1)  # of the second answer, which is whole


def test_a_client_that_leaves_leaves_no_session(start: Start, fake_cli: FakeCli) -> None:
    one = start()
    body = {"model": "claude", "messages": [user(do(["say", "so far"], ["hang"]))], "stream": True}
    with one.client.open("POST", "/openai/v1/chat/completions", body) as stream:
        next(event for event in stream.events() if "so far" in event.data)
        assert len(fake_cli.transcripts) == 1
    assert eventually(lambda: not fake_cli.transcripts)
    assert eventually(lambda: not one.runs())


def test_number_and_age_are_bounded(start: Start, fake_cli: FakeCli) -> None:
    one = start(continued_max_sessions=2)
    talks = [Talk(one) for _ in range(3)]
    for number, talk in enumerate(talks):
        talk.say(f"one of {number}?")
    assert eventually(lambda: len(fake_cli.transcripts) == 2)
    talks[0].say("first again?")
    assert is_in_full(fake_cli, "first again?")
    talks[2].say("last again?")
    assert prompts(fake_cli, "last again?") == [("last again?", True)]


def test_the_server_s_end_deletes_the_sessions(start: Start, fake_cli: FakeCli) -> None:
    one = start()
    Talk(one).say("one?")
    assert len(fake_cli.transcripts) == 1
    one.stop()
    assert not fake_cli.transcripts
    assert not list((one.clinvk_home / "continued").iterdir())


def test_the_next_start_deletes_what_a_killed_server_has_left(server: ServerFactory, fake_cli: FakeCli) -> None:
    shutil.rmtree(fake_cli.folder, ignore_errors=True)
    backends = {"claude": fake_cli.backend(env=fake_cli.keeping)}
    killed = server({"backends": backends, "server": ON})
    living = server({"backends": backends, "server": ON}, env={"CLINVK_HOME": str(killed.clinvk_home)})
    talk = Talk(living)
    talk.say("one?")
    Talk(killed).say("two?")
    assert len(fake_cli.transcripts) == 2
    for pid in [killed.pid, *killed.workers()]:
        os.kill(pid, signal.SIGKILL)
    killed.process.wait()
    server({"backends": backends}, env={"CLINVK_HOME": str(killed.clinvk_home)})
    assert eventually(lambda: len(fake_cli.transcripts) == 1)
    talk.say("three?")  # another server's stay
    assert prompts(fake_cli, "three?") == [("three?", True)]


LIMITED = {
    "name": "cy",
    "key": "key-of-cy-0123456789",
    "budget": {"runs": 2, "per": "month"},
    "max_concurrent_runs": 1,
    "max_waiting_runs": 0,
}
CY = {"Authorization": "Bearer key-of-cy-0123456789"}


def test_a_session_that_the_cli_lost_costs_no_second_run(start: Start, fake_cli: FakeCli) -> None:
    one = start(api_keys=[LIMITED])
    talk = Talk(one, headers=CY)
    talk.say("one?")
    fake_cli.transcripts[0].unlink()
    talk.say("two?")
    assert any("one?" in told(report) for report in fake_cli.reports() if "two?" in report["prompt"])
    body = {"model": "claude", "messages": [user("three?")]}
    refused = one.client.post("/openai/v1/chat/completions", body, headers=CY)
    assert (refused.status, refused.json["error"]["code"]) == (429, "budget_exceeded")


def test_a_session_that_the_cli_lost_does_not_change_its_backend(server: ServerFactory, fake_cli: FakeCli) -> None:
    shutil.rmtree(fake_cli.folder, ignore_errors=True)
    first, other = ({**fake_cli.keeping, "FAKE_CLI_ACCOUNT": account} for account in ("first", "other"))
    backends = {"claude": {**fake_cli.backend(env=first), "fallback": ["work"]}, "work": {"like": "claude", "env": other}}
    one = server({"backends": backends, "server": ON})
    messages = [user("one?")]
    answer = one.client.post("/openai/v1/chat/completions", {"model": "claude", "messages": messages})
    fake_cli.transcripts[0].unlink()
    limited = do(["at", "first", "fail", "This request would exceed your account's rate limit", 429], ["say", "of another"], about="two?")
    messages += [{"role": "assistant", "content": answer.json["choices"][0]["message"]["content"]}, user(limited)]
    failed = one.client.post("/openai/v1/chat/completions", {"model": "claude", "messages": messages})
    assert (failed.status, failed.json["error"]["code"]) == (429, "rate_limit_exceeded")
