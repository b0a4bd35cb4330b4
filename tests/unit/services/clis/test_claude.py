from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from services.clis.claude.spec import SPEC
from services.clis.spec import Invocation
from services.errors import InvalidRequest
from services.history import Image, Message, Text, said
from tests.unit.services.clis.invoked import ENVIRON, added, invoked, variables


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ({}, []),
        ({"model": "sonnet"}, ["--model=sonnet"]),
        ({"approval_mode": "default"}, []),
        ({"approval_mode": "auto"}, ["--permission-mode=acceptEdits"]),
        ({"approval_mode": "none"}, ["--permission-mode=bypassPermissions"]),
        ({"approval_mode": "always"}, ["--permission-mode=default"]),
        ({"sandbox_mode": "read-only"}, ["--disallowedTools=Bash,Edit,MultiEdit,NotebookEdit,Write"]),
        ({"max_turns": 3}, ["--max-turns=3"]),
        ({"allowed_tools": ["Read", "Bash(git log:*)"]}, ["--allowedTools=Read,Bash(git log:*)"]),
        ({"effort": "minimal"}, ["--effort=low"]),
        ({"effort": "max"}, ["--effort=max"]),
        ({"verbose": True}, []),
    ],
)
def test_argv(options: dict[str, Any], argv: list[str]) -> None:
    assert added(SPEC, **options) == argv
    assert invoked(SPEC, options=options).ignored == ()


@pytest.mark.parametrize(
    ("options", "env"),
    [
        ({"max_tokens": 50}, {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "50"}),
        ({"thinking_tokens": 2000}, {"MAX_THINKING_TOKENS": "2000"}),
        ({"thinking_tokens": 0}, {"MAX_THINKING_TOKENS": "0"}),
    ],
)
def test_env(options: dict[str, Any], env: dict[str, str]) -> None:
    assert variables(SPEC, **options) == env


@pytest.mark.parametrize("options", [{"sandbox_mode": "workspace"}, {"sandbox_mode": "full"}, {"effort": "huge"}])
def test_what_cannot_be_promised_is_named(options: dict[str, Any]) -> None:
    assert invoked(SPEC, options=options).ignored == tuple(options)
    assert added(SPEC, **options) == []


@pytest.mark.parametrize(
    ("options", "set_up"),
    [
        ({"system_prompt": "be kind"}, {"systemPrompt": ["be kind"]}),
        ({"json_schema": {"type": "object"}}, {"jsonSchema": {"type": "object"}}),
        ({"system_prompt": "s", "json_schema": {}}, {"systemPrompt": ["s"], "jsonSchema": {}}),
    ],
)
def test_what_is_no_flag_is_set_up_before_the_question(options: dict[str, Any], set_up: dict[str, Any]) -> None:
    invocation = invoked(SPEC, options=options)
    first, question = sent(invocation)
    assert first["request"] == {"subtype": "initialize", "hooks": None, **set_up}
    assert question["type"] == "user"
    assert (invocation.argv, invocation.files) == (invoked(SPEC).argv, {})


def test_a_system_prompt_may_have_any_size_and_shape() -> None:
    text = "--not-a-flag {} {json} {file}\0" + "x" * 500_000
    first, _ = sent(invoked(SPEC, options={"system_prompt": text}))
    assert first["request"]["systemPrompt"] == [text]


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("hello /cost", "hello /cost"),
        ("/cost", "\n/cost"),
        ("  /cost", "\n  /cost"),
        ("@file", "@file"),
        ("--model=x", "--model=x"),
    ],
)
def test_prompts_are_text(prompt: str, told: str) -> None:
    invocation = invoked(SPEC, prompt)
    assert invocation.messages == (said("user", told),)
    assert invocation.env["CLAUDE_CODE_DISABLE_ATTACHMENTS"] == "1"
    assert prompt not in invocation.argv


def test_system_messages_in_their_place_go_to_the_end_of_the_system_prompt() -> None:
    """A request that was made for a CLI that can have them there."""
    history = (said("user", "one"), said("developer", "be kind"), said("user", "two"))
    invocation = invoked(SPEC, history=history, options={"system_prompt": "be brief"})
    assert invocation.messages == (history[0], history[2])
    assert invocation.fields["initialize"]["systemPrompt"] == ["be brief\n\nbe kind"]
    with pytest.raises(InvalidRequest, match="last message"):
        invoked(SPEC, history=(history[0], said("assistant", "a"), history[1]))


def test_directives_can_be_wanted() -> None:
    invocation = invoked(replace(SPEC, escaping=None), "/cost")
    assert invocation.messages == (said("user", "/cost"),)
    assert "CLAUDE_CODE_DISABLE_ATTACHMENTS" not in invocation.env


def test_images_stand_where_they_were_sent() -> None:
    invocation = invoked(SPEC, history=(Message("user", (Text("this"), Image("image/png", b"\x89PNG"), Text("/look"))),))
    (line,) = sent(invocation)
    assert line["message"]["content"] == [
        {"type": "text", "text": "this"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG").decode()}},
        {"type": "text", "text": "\n/look"},
    ]
    assert invocation.argv == invoked(SPEC).argv


@pytest.mark.parametrize(
    "asked", [{"options": {"system_prompt": "be kind"}}, {"extra": ("--append-system-prompt", "be kind")}], ids=["option", "extra"]
)
def test_a_resumed_session_is_asked_not_to_go_on_with_its_first_system_prompt(asked: dict[str, Any]) -> None:
    invocation = invoked(SPEC, resume="abc-1", **asked)
    first, question = sent(invocation)
    assert (first["request"]["subtype"], first["request"]["systemPromptSnapshot"]) == ("initialize", False)
    assert question["message"]["content"] == [{"type": "text", "text": "hi"}]
    assert {*invocation.argv} - {*invoked(SPEC, **asked).argv} == {"--resume=abc-1"}


def test_a_session_resumed_without_a_system_prompt_keeps_its_own() -> None:
    (question,) = sent(invoked(SPEC, resume="abc-1", options={"effort": "low"}))
    assert question["type"] == "user"


def sent(invocation: Invocation) -> list[dict[str, Any]]:
    """What the CLI is sent on its stdin at the start."""
    conversation = SPEC.conversation(invocation)
    return [json.loads(line) for line in conversation.outgoing().splitlines()]


def test_sessions() -> None:
    assert "--resume=abc-1" in invoked(SPEC, resume="abc-1").argv
    assert "--no-session-persistence" in invoked(SPEC, ephemeral=True).argv
    assert "--no-session-persistence" not in invoked(SPEC).argv


def test_environment_is_picked() -> None:
    environ = ENVIRON | {
        "ANTHROPIC_API_KEY": "k", "CLAUDE_CONFIG_DIR": "/c", "CLAUDECODE": "1", "CLAUDE_CODE_ENTRYPOINT": "cli",
        "CLAUDE_CODE_SSE_PORT": "1", "AWS_SECRET_ACCESS_KEY": "s", "OPENAI_API_KEY": "o", "HTTPS_PROXY": "p",
    }  # fmt: skip
    env = invoked(SPEC, environ=environ).env
    assert {"ANTHROPIC_API_KEY", "CLAUDE_CONFIG_DIR", "HTTPS_PROXY", "PATH", "HOME"} <= env.keys()
    refused = {"CLAUDECODE", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SSE_PORT", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY", "CLINVK_API_KEY"}
    assert not refused & env.keys()
    assert env["DISABLE_AUTOUPDATER"] == env["CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK"] == "1"
    assert "IS_SANDBOX" not in env, "root may not skip permissions unless the operator says so"
