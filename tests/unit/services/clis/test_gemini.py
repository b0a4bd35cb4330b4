from __future__ import annotations

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.clis.gemini.spec import SPEC
from tests.unit.services.clis.invoked import ENVIRON, added, invoked, variables

HOME = "/run/clinvk-1/home/.gemini"
GENERAL = {"maxAttempts": 1, "enableAutoUpdate": False, "enableAutoUpdateNotification": False, "sessionRetention": {"enabled": False}}
ALWAYS = {"general": GENERAL}


def settings(**options: Any) -> dict[str, Any]:
    return json.loads(invoked(SPEC, options=options).files[f"{HOME}/settings.json"])


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ({"model": "gemini-2.5-pro"}, ["--model=gemini-2.5-pro"]),
        ({"approval_mode": "auto"}, ["--approval-mode=auto_edit"]),
        ({"approval_mode": "none"}, ["--approval-mode=yolo"]),
        ({"approval_mode": "always"}, ["--approval-mode=default"]),
        ({"allowed_tools": ["read_file", "run_shell_command(ls)"]}, ["--allowed-tools=read_file,run_shell_command(ls)"]),
        ({"verbose": True}, ["--debug"]),
    ],
)
def test_argv(options: dict[str, Any], argv: list[str]) -> None:
    assert added(SPEC, **options) == argv


def generating(base: str, **config: Any) -> dict[str, Any]:
    return {"match": {"model": base}, "modelConfig": {"generateContentConfig": config}}


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, {}),
        ({"max_turns": 3}, {"model": {"maxSessionTurns": 3}}),
        ({"sandbox_mode": "read-only"}, {"tools": {"exclude": ["run_shell_command", "write_file", "replace"]}}),
        ({"max_tokens": 50}, {"modelConfigs": {"customOverrides": [generating("chat-base", maxOutputTokens=50)]}}),
        (
            {"thinking_tokens": 0, "max_tokens": 9},
            {
                "modelConfigs": {
                    "customOverrides": [
                        generating("chat-base", maxOutputTokens=9),
                        generating("chat-base-2.5", thinkingConfig={"thinkingBudget": 0}),
                    ]
                }
            },
        ),
    ],
)
def test_settings(options: dict[str, Any], more: dict[str, Any]) -> None:
    assert settings(**options) == ALWAYS | more
    assert settings() == ALWAYS, "one request's settings are in the next"


def test_a_model_is_always_named_so_that_none_is_asked_which() -> None:
    assert "--model=gemini-2.5-flash" in invoked(SPEC).argv


def test_the_system_prompt_is_a_file() -> None:
    assert variables(SPEC, system_prompt="x") == {"GEMINI_SYSTEM_MD": "/run/clinvk-1/system_prompt.txt"}


@pytest.mark.parametrize("options", [{"sandbox_mode": "workspace"}, {"effort": "low"}])
def test_what_cannot_be_promised_is_named(options: dict[str, Any]) -> None:
    assert invoked(SPEC, options=options).ignored == tuple(options)


def reached(prompt: str) -> str:
    """The text that the CLI makes of a command file and its argument (FileCommandLoader: `{{args}}`, `!{…}`, `@{…}`)."""
    invocation = invoked(SPEC, prompt)
    told = invocation.stdin.decode()
    commands = {path: text for path, text in invocation.files.items() if path.endswith(".toml")}
    if not commands:
        return told
    ((path, text),) = commands.items()
    name, _, argument = told.partition(" ")
    assert path == f"{HOME}/commands{name}.toml"
    template = tomllib.loads(text)["prompt"]
    assert "!{" not in template
    assert "@{" not in template
    assert ("{{args}}" in template) == bool(argument)
    return template.replace("{{args}}", argument)


@pytest.mark.parametrize(
    "prompt",
    [
        "plain\n\n", "a @ b", "x@", "/about", "/extensions install evil", "@secret.txt", "bob@example.com", "@property\ndef f(self): ...",
        'mail @a and\n@"b c", \\@d', "x@y !{rm -rf .}", "x@y @{secret}", "x@y {{args}}", '@q """ \\ \x7f \x01 😀 \u2028', "/x !{a}!{b}", "!{a} only",
    ],
)  # fmt: skip
def test_prompts_reach_the_model_as_they_are(prompt: str) -> None:
    assert reached(prompt) == prompt


@pytest.mark.parametrize("prompt", ["@secret.txt", "x@y", "/about", "/a @b"])
def test_nothing_that_the_cli_would_act_on_goes_to_its_stdin(prompt: str) -> None:
    stdin = invoked(SPEC, prompt).stdin.decode()
    assert stdin == "/clinvk-1"


@pytest.mark.parametrize(
    ("prompt", "told"), [("x@y !{a} @{b}", "x\\@y !{a} @{b}"), ("/a !{b} @{c}", "\n/a !{b} @{c}"), ("!!{ @a", "!!{ \\@a")]
)
def test_two_marks_and_a_path_are_told_with_a_backslash(prompt: str, told: str) -> None:
    assert reached(prompt) == told


def test_directives_can_be_wanted() -> None:
    invocation = invoked(replace(SPEC, escaping=None), "@secret.txt")
    assert invocation.stdin == b"@secret.txt"


def real_home(tmp_path: Path, settings: str | None = None) -> Path:
    folder = tmp_path / "real/.gemini"
    (folder / "tmp").mkdir(parents=True)
    (folder / "commands").mkdir()
    for name in ("oauth_creds.json", "projects.json", "GEMINI.md"):
        (folder / name).write_text(name)
    if settings is not None:
        (folder / "settings.json").write_text(settings)
    return folder


def prepared(tmp_path: Path, **request: Any) -> Path:
    invocation = invoked(SPEC, environ=ENVIRON | {"HOME": str(tmp_path / "real")}, run_dir=str(tmp_path / "run"), **request)
    (tmp_path / "run").mkdir(0o700)
    invocation.prepare()
    assert invocation.env["GEMINI_CLI_HOME"] == str(tmp_path / "run/home")
    return tmp_path / "run/home/.gemini"


def test_log_ins_and_sessions_are_the_real_homes(tmp_path: Path) -> None:
    real, home = real_home(tmp_path), prepared(tmp_path)
    assert {path.name for path in home.iterdir() if path.is_symlink()} == {"oauth_creds.json", "GEMINI.md", "tmp", "history"}
    (home / "tmp/session").write_text("kept")
    assert (real / "tmp/session").read_text() == "kept"
    assert (real / "history").is_dir()


def test_an_ephemeral_run_keeps_its_sessions_to_itself(tmp_path: Path) -> None:
    real_home(tmp_path)
    assert {path.name for path in prepared(tmp_path, ephemeral=True).iterdir() if path.is_symlink()} == {"oauth_creds.json", "GEMINI.md"}


def test_a_home_that_was_never_used_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a file where a folder should be")
    assert [path.name for path in prepared(tmp_path).iterdir()] == ["settings.json"]


@pytest.mark.parametrize(
    ("real", "mine"),
    [
        ('{"ui": {"theme": "x"}}', {"ui": {"theme": "x"}} | ALWAYS),
        ('{// note\n"general": {"maxAttempts": 9, "vimMode": true}, /* "a" */ "url": "http://x//y"}',
         {"general": {"vimMode": True} | GENERAL, "url": "http://x//y"}),
        ("[]", None),
        ("{ broken", None),
    ],
)  # fmt: skip
def test_the_real_settings_are_kept_and_added_to(tmp_path: Path, real: str, mine: dict[str, Any] | None) -> None:
    real_home(tmp_path, real)
    text = (prepared(tmp_path) / "settings.json").read_text()
    assert text == real if mine is None else json.loads(text) == mine
    assert (tmp_path / "real/.gemini/settings.json").read_text() == real


def test_lists_of_the_real_settings_are_added_to(tmp_path: Path) -> None:
    real_home(tmp_path, '{"tools": {"exclude": ["web_fetch"]}}')
    text = (prepared(tmp_path, options={"sandbox_mode": "read-only"}) / "settings.json").read_text()
    assert json.loads(text)["tools"]["exclude"] == ["web_fetch", "run_shell_command", "write_file", "replace"]


def test_the_private_home_is_private(tmp_path: Path) -> None:
    real_home(tmp_path)
    home = prepared(tmp_path)
    assert os.stat(home).st_mode & 0o77 == 0
    assert os.stat(home / "settings.json").st_mode & 0o77 == 0
