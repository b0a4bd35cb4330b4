from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.clis.codex import spec as codex
from services.clis.codex.spec import EXEC, SPEC, native_binary
from services.errors import OptionNotSupported
from services.history import Image, said
from tests.unit.services.clis.invoked import added, invoked

SCHEMA = {"type": "object"}
PLAIN = {"thread": {"approvalPolicy": "never"}}


def thread(**fields: str) -> dict[str, Any]:
    return {"thread": PLAIN["thread"] | fields}


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ({}, PLAIN),
        ({"model": "gpt-5.5"}, thread(model="gpt-5.5")),
        ({"system_prompt": "be {}"}, thread(baseInstructions="be {}")),
        ({"approval_mode": "auto"}, thread(sandbox="workspace-write")),
        ({"approval_mode": "none"}, thread(sandbox="danger-full-access")),
        ({"approval_mode": "always"}, thread(approvalPolicy="untrusted")),
        ({"sandbox_mode": "read-only"}, thread(sandbox="read-only")),
        ({"sandbox_mode": "workspace"}, thread(sandbox="workspace-write")),
        ({"sandbox_mode": "full"}, thread(sandbox="danger-full-access")),
        ({"sandbox_mode": "read-only", "approval_mode": "none"}, thread(sandbox="read-only")),
        ({"json_schema": SCHEMA}, PLAIN | {"turn": {"outputSchema": SCHEMA}}),
        ({"effort": "minimal"}, PLAIN | {"turn": {"effort": "low"}}),
        ({"effort": "max", "json_schema": SCHEMA}, PLAIN | {"turn": {"effort": "max", "outputSchema": SCHEMA}}),
    ],
)
def test_app_server_fields(options: dict[str, Any], fields: dict[str, Any]) -> None:
    invocation = invoked(SPEC, options=options)
    assert (invocation.fields, invocation.ignored) == (fields, ())
    assert invocation.argv == ("codex", "app-server")


def test_one_request_leaves_nothing_in_the_next() -> None:
    invoked(SPEC, options={"model": "one", "effort": "low"})
    assert invoked(SPEC).fields == PLAIN


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ({"model": "gpt-5.5"}, ["--model=gpt-5.5"]),
        ({"system_prompt": "x"}, ["-c", "model_instructions_file=/run/clinvk-1/system_prompt.txt"]),
        ({"approval_mode": "auto"}, ["-c", "approval_policy=never", "-c", "sandbox_mode=workspace-write"]),
        ({"sandbox_mode": "read-only"}, ["-c", "sandbox_mode=read-only"]),
        ({"json_schema": SCHEMA}, ["--output-schema=/run/clinvk-1/json_schema.json"]),
        ({"effort": "high"}, ["-c", "model_reasoning_effort=high"]),
    ],
)
def test_exec_argv(options: dict[str, Any], argv: list[str]) -> None:
    assert added(EXEC, **options) == argv
    assert invoked(EXEC, options=options).argv[-1] == "-"


def test_exec_applies_the_sandbox_after_the_approval_mode_that_brings_one() -> None:
    argv = invoked(EXEC, options={"sandbox_mode": "read-only", "approval_mode": "none"}).argv
    assert [part for part in argv if part.startswith("sandbox_mode")] == ["sandbox_mode=danger-full-access", "sandbox_mode=read-only"]


def test_exec_cannot_ask_always() -> None:
    assert invoked(EXEC, options={"approval_mode": "always"}).ignored == ("approval_mode",)


@pytest.mark.parametrize("option", ["max_tokens", "max_turns", "allowed_tools", "thinking_tokens"])
@pytest.mark.parametrize("spec", [SPEC, EXEC], ids=["app-server", "exec"])
def test_what_codex_has_no_word_for_is_named(spec: codex.BackendSpec, option: str) -> None:
    assert invoked(spec, options={option: 5}).ignored == (option,)


def test_sessions() -> None:
    argv = invoked(EXEC, resume="01a1-b2", ephemeral=True, options={"model": "m"}).argv
    assert argv == ("codex", "exec", "--json", "--skip-git-repo-check", "--model=m", "--ephemeral", "resume", "01a1-b2", "-")
    assert invoked(SPEC, resume="01a1-b2", ephemeral=True).argv == ("codex", "app-server")


def test_exec_takes_no_images() -> None:
    history = (said("user", "look", Image("image/png", b"x")),)
    assert invoked(SPEC, history=history).messages == history
    with pytest.raises(OptionNotSupported):
        invoked(EXEC, history=history)


def wrapper(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(codex.platform, "system", lambda: "Linux")
    monkeypatch.setattr(codex.platform, "machine", lambda: "x86_64")
    script = root / "node_modules/@openai/codex/bin/codex.js"
    script.parent.mkdir(parents=True)
    script.touch()
    link = root / "bin/codex"
    link.parent.mkdir()
    link.symlink_to(script)
    return link


@pytest.mark.parametrize("package", ["@openai/codex-linux-x64", "@openai/codex/node_modules/@openai/codex-linux-x64", "@openai/codex"])
def test_the_native_program_is_found_behind_the_wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    link = wrapper(tmp_path, monkeypatch)
    folder = tmp_path / "node_modules" / package / "vendor/x86_64-unknown-linux-musl/bin"
    folder.mkdir(parents=True)
    (folder / "codex").touch(mode=0o755)
    assert native_binary(str(link)) == str(folder / "codex")


def test_the_wrapper_does_where_there_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = wrapper(tmp_path, monkeypatch)
    assert native_binary(str(link)) == str(link)
    assert native_binary("/nowhere/codex") == "/nowhere/codex"


def test_the_native_program_is_started_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = wrapper(tmp_path, monkeypatch)
    link.resolve().chmod(0o755)
    environ = {"PATH": str(link.parent)}
    assert invoked(SPEC, environ=environ).argv == ("codex", "app-server")
    native = tmp_path / "node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
    native.parent.mkdir(parents=True)
    native.touch(mode=0o755)
    assert invoked(SPEC, environ=environ).argv == (str(native), "app-server")
