"""The table's rules, on a backend made for it, and what hostile values come to on all of them."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.clis.codex.spec import EXEC
from services.clis.option import Option
from services.clis.registry import BUILT_IN, DRIVERS
from services.clis.safety import check_extra
from services.clis.spec import OPTION_NAMES, BackendSpec, PrivateHome
from services.decoding.text import PlainDecoder
from services.errors import InvalidRequest, OptionNotSupported
from services.history import Image, said
from tests.unit.services.clis.invoked import added, invoked, variables

SPEC = BackendSpec(
    name="made",
    command=("made", "--base"),
    args=("run",),
    options={
        "model": Option(argv=("--model={}",)),
        "system_prompt": Option(argv=("--system={}", "--file={file}"), env={"SYSTEM": "{}"}),
        "json_schema": Option(argv=("--schema={json}", "--in={file}"), fields={"deep.er.schema": "{}", "deep.list": ["{}", {"a": "<{}>"}]}),
        "approval_mode": Option(values={"auto": Option(argv=("--yes",)), "none": Option(argv=("--force",), env={"FORCE": "1"})}),
        "allowed_tools": Option(argv=("--tools={}",)),
        "verbose": Option(argv=("--verbose",)),
        "max_turns": Option(argv=("--turns={}",)),
        "thinking_tokens": Option(env={"THINK": "{}"}),
    },
    decoder=PlainDecoder,
    allowed_extra={"--flag": 0, "--value": 1},
    prompt_args=("-",),
)
BY_ARG = replace(SPEC, prompt_via="arg", prompt_args=("--prompt={}",))
ALL = [*BUILT_IN.values(), EXEC, SPEC, BY_ARG]
EVERY = pytest.mark.parametrize("spec", ALL, ids=lambda spec: f"{spec.name}-{spec.conversation.__name__}-{spec.prompt_via}")


def test_the_order_of_an_argv() -> None:
    spec = replace(SPEC, resume_args=("--resume={}",), can_resume=True, ephemeral_args=("--forget",), extra_args=("--ops",))
    request: dict[str, Any] = {"options": {"model": "m"}, "resume": "s", "ephemeral": True, "extra": ("--flag",)}
    words = ("made", "--base", "run", "--model=m", "--forget", "--resume=s", "--flag", "--ops", "-")
    assert invoked(spec, **request).argv == words


def test_a_rule_fills_in_its_value_everywhere() -> None:
    invocation = invoked(SPEC, options={"json_schema": {"a": "é"}})
    assert added(SPEC, json_schema={"a": "é"}) == ['--schema={"a": "é"}', "--in=/run/clinvk-1/json_schema.json"]
    assert invocation.fields == {"deep": {"er": {"schema": {"a": "é"}}, "list": [{"a": "é"}, {"a": '<{"a": "é"}>'}]}}
    assert invocation.files == {"/run/clinvk-1/json_schema.json": '{"a": "é"}'}
    assert variables(SPEC, approval_mode="none") == {"FORCE": "1"}


def test_braces_in_a_value_are_its_own() -> None:
    assert "--system={json} {} {file} {run_dir}" in added(SPEC, system_prompt="{json} {} {file} {run_dir}")
    assert invoked(BY_ARG, "{} {file}").argv[-1] == "--prompt={} {file}"


@pytest.mark.parametrize(
    ("option", "value"),
    [("model", None), ("approval_mode", "default"), ("verbose", False), ("allowed_tools", ()), ("allowed_tools", [])],
)
def test_nothing_was_asked_for(option: str, value: Any) -> None:
    assert added(SPEC, **{option: value}) == []
    assert invoked(SPEC, options={option: value}).ignored == ()


def test_zero_is_a_value() -> None:
    assert variables(SPEC, thinking_tokens=0) == {"THINK": "0"}


def test_defaults_are_for_requests_that_say_nothing() -> None:
    spec = replace(SPEC, defaults={"model": "theirs", "verbose": True})
    assert {"--model=theirs", "--verbose"} <= set(invoked(spec).argv)
    assert "--model=mine" in invoked(spec, options={"model": "mine"}).argv
    assert invoked(spec, options={"verbose": False}).argv.count("--verbose") == 0


def test_what_is_not_honoured_is_named_and_a_schema_refused() -> None:
    assert invoked(SPEC, options={"effort": "low", "sandbox_mode": "full"}).ignored == ("sandbox_mode", "effort")
    assert invoked(SPEC, options={"approval_mode": "always"}).ignored == ("approval_mode",)
    with pytest.raises(OptionNotSupported, match="json_schema"):
        invoked(replace(SPEC, options={}), options={"json_schema": {}})


@pytest.mark.parametrize("request_", [{"resume": "x"}, {"history": (said("user", "", Image("image/png", b"")),)}])
def test_what_must_not_be_lost_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(OptionNotSupported):
        invoked(SPEC, **request_)


# -- hostile values --


@EVERY
@pytest.mark.parametrize("model", ["--yolo", "-x", "a b", "a\nb", "", "../x", "m" * 129, "a\0b", "$(id)", "é"])
def test_models_that_are_no_names_are_refused(spec: BackendSpec, model: str) -> None:
    with pytest.raises(InvalidRequest, match="model"):
        invoked(spec, options={"model": model})


@EVERY
@pytest.mark.parametrize("session", ["--continue", "a b", "", "../../x", "x" * 200, "{}\n"])
def test_session_ids_that_are_no_names_are_refused(spec: BackendSpec, session: str) -> None:
    with pytest.raises(InvalidRequest):
        invoked(spec, resume=session or "-")


@EVERY
def test_a_huge_prompt_passes_or_is_refused_with_the_limit(spec: BackendSpec) -> None:
    prompt = "x" * 1_000_000
    if spec.prompt_via == "stdin":
        invocation = invoked(spec, prompt)
        assert len(invocation.messages[0].text if invocation.messages else invocation.stdin) == 1_000_000
    else:
        with pytest.raises(InvalidRequest, match="131071"):
            invoked(spec, prompt)


def test_the_limit_is_that_of_the_system() -> None:
    invoked(BY_ARG, "x" * (131_071 - len("--prompt=")))
    with pytest.raises(InvalidRequest):
        invoked(BY_ARG, "x" * (131_072 - len("--prompt=")))
    with pytest.raises(InvalidRequest, match="131071"):
        invoked(SPEC, options={"system_prompt": "é" * 70_000})


def test_nul_cannot_be_an_argument_but_can_be_said() -> None:
    assert invoked(SPEC, "a\0b").stdin == b"a\0b"
    with pytest.raises(InvalidRequest, match="NUL"):
        invoked(BY_ARG, "a\0b")
    with pytest.raises(InvalidRequest, match="NUL"):
        invoked(SPEC, options={"system_prompt": "a\0b"})


@EVERY
@pytest.mark.parametrize("request_", [{"prompt": "half \ud83d"}, {"options": {"system_prompt": "half \ud83d"}}])
def test_half_a_character_is_refused(spec: BackendSpec, request_: dict[str, Any]) -> None:
    if "prompt" in request_ or spec.honours("system_prompt"):
        with pytest.raises(InvalidRequest, match="surrogate"):
            invoked(spec, **request_)


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize("name", ["claude", "codex"])
@pytest.mark.parametrize("depth", [300, 900])
def test_a_schema_nested_without_end_is_refused_or_passes(name: str, depth: int) -> None:
    with contextlib.suppress(InvalidRequest):
        invoked(BUILT_IN[name], options={"json_schema": nested(depth)})


# -- extra --


@pytest.mark.parametrize(
    ("extra", "argv"),
    [
        ((), []),
        (("--flag",), ["--flag"]),
        (("--value", "x"), ["--value=x"]),
        (("--value=x=y",), ["--value=x=y"]),
        (("--value", "--flag"), ["--value=--flag"]),
        (("--value=",), ["--value="]),
        (("--flag", "--value", "a b"), ["--flag", "--value=a b"]),
    ],
)
def test_extra(extra: tuple[str, ...], argv: list[str]) -> None:
    assert check_extra(SPEC, extra) == argv


@pytest.mark.parametrize(
    "extra", [("--other",), ("x",), ("--value",), ("--flag=x",), ("--flag", "x"), ("--val", "x"), ("-",), ("",), ("--value", "")]
)
def test_extra_refused(extra: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest, match="extra"):
        check_extra(SPEC, extra)


# Flags that run programs, loosen the sandbox or the permissions, read another configuration, or leave the working directory.
NEVER = [
    "--add-dir", "--agents", "--allow-dangerously-skip-permissions", "--allowedTools", "--approval-mode", "--config", "-c", "--cd", "-C",
    "--dangerously-bypass-approvals-and-sandbox", "--dangerously-skip-permissions", "--enable", "--extensions", "--full-auto",
    "--include-directories", "--mcp-config", "--permission-mode", "--permission-prompt-tool", "--plugin-dir", "--policy", "--profile",
    "--resume", "--sandbox", "--session-file", "--settings", "--setting-sources", "--system-prompt-file", "--worktree", "--yolo",
]  # fmt: skip


@EVERY
@pytest.mark.parametrize("flag", NEVER)
def test_dangerous_flags_are_not_for_callers(spec: BackendSpec, flag: str) -> None:
    with pytest.raises(InvalidRequest, match="not allow"):
        invoked(spec, extra=(flag, "x"))


# -- environment and files --


def test_the_environment_is_picked_by_patterns_and_the_servers_own_never() -> None:
    spec = replace(SPEC, vendor_env=("MADE_*", "!MADE_UP"), pass_env=("CLINVK_*", "MINE"), fixed_env={"FIXED": "1"}, env={"SET": "2"})
    environ = {"MADE_KEY": "k", "MADE_UP": "u", "MINE": "m", "OTHER": "o", "CLINVK_KEY": "c", "LC_ALL": "C"}
    assert invoked(spec, environ=environ).env == {
        "MADE_KEY": "k", "MINE": "m", "LC_ALL": "C", "FIXED": "1", "SET": "2", "TMPDIR": "/run/clinvk-1", "CLINVK_DEPTH": "1",
    }  # fmt: skip


def test_prepare_writes_files_for_their_owner_alone(tmp_path: Path) -> None:
    invocation = invoked(SPEC, options={"system_prompt": "line\r\nline\n"}, run_dir=str(tmp_path / "run"))
    invocation.prepare()
    file = tmp_path / "run/system_prompt.txt"
    assert file.read_bytes() == b"line\r\nline\n"
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        invocation.prepare()


def test_a_private_home_follows_a_home_that_the_operator_moved(tmp_path: Path) -> None:
    home = PrivateHome(variable="MADE_HOME", folder=".made", settings="s.json")
    (tmp_path / ".made").mkdir()
    (tmp_path / ".made/login").touch()
    spec = replace(SPEC, private_home=home, env={"MADE_HOME": str(tmp_path)})
    invocation = invoked(spec)
    assert invocation.links == {"/run/clinvk-1/home/.made/login": str(tmp_path / ".made/login")}
    assert invocation.env["MADE_HOME"] == "/run/clinvk-1/home"


# -- the built-in ones --


@pytest.mark.parametrize("spec", [*BUILT_IN.values(), EXEC], ids=lambda spec: f"{spec.name}-{spec.conversation.__name__}")
def test_built_in_specs_are_whole(spec: BackendSpec) -> None:
    assert set(spec.options) <= set(OPTION_NAMES)
    assert spec.decoder().is_complete is False
    assert {"fast", "balanced", "best"} <= set(spec.aliases)
    assert spec.claims
    assert spec.is_demo or (spec.install_hint and spec.login_hint and spec.credentials)
    assert spec.is_demo == (spec.name == "demo")


def test_drivers_are_of_their_backend() -> None:
    assert all(spec.name == name for name, drivers in DRIVERS.items() for spec in drivers.values())
    assert BUILT_IN["codex"] is DRIVERS["codex"]["app-server"]
