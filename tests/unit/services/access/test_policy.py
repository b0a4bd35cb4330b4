"""What a key's rights make of a run: each right at, below and above what is asked for, and where nothing is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from services.access.policy import extra_of, modes_of, permit
from services.access.rights import UNLIMITED, Rights
from services.clis.claude.spec import SPEC as CLAUDE
from services.clis.codex.spec import EXEC as CODEX_EXEC
from services.clis.codex.spec import SPEC as CODEX
from services.clis.demo.spec import SPEC as DEMO
from services.clis.gemini.spec import SPEC as GEMINI
from services.clis.option import Option
from services.clis.spec import BackendSpec
from services.decoding.text import PlainDecoder
from services.errors import RightMissing
from services.processes.confinement import BUBBLEWRAP, Confinement, RunLimits
from services.requests import RunRequest

TEMPLATED = BackendSpec(
    name="templated",
    command=("x",),
    decoder=PlainDecoder,
    options={"sandbox_mode": Option(argv=("--sandbox={}",))},
    allowed_extra={"--x": 0},
)


def request_on(spec: BackendSpec, *, inherited: tuple[str, ...] = (), extra: tuple[str, ...] = (), **options: Any) -> RunRequest:
    return RunRequest(prompt="x", backend=spec.name, options=options, inherited=frozenset(inherited), extra=extra)


def lowered(rights: Rights, spec: BackendSpec, request: RunRequest) -> Mapping[str, Any]:
    return permit(request, rights, spec).lowered


def refused(rights: Rights, spec: BackendSpec, request: RunRequest) -> RightMissing:
    with pytest.raises(RightMissing) as raised:
        permit(request, rights, spec)
    return raised.value


READ_ONLY = Rights(max_sandbox_mode="read-only")
WORKSPACE = Rights(max_sandbox_mode="workspace")
ALWAYS = Rights(max_approval_mode="always")
DEFAULT = Rights(max_approval_mode="default")
AUTO = Rights(max_approval_mode="auto")

MODES: list[tuple[Rights, BackendSpec, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # rights, backend, configured defaults, asked for, what is lowered
    (UNLIMITED, CODEX, {"sandbox_mode": "full"}, {"approval_mode": "none"}, {}),
    (Rights(max_approval_mode="none", max_sandbox_mode="full"), CODEX, {}, {"approval_mode": "none", "sandbox_mode": "full"}, {}),
    # absent: lowered where the configured mode is above the ceiling, or nobody knows what it is
    (READ_ONLY, CODEX, {}, {}, {"sandbox_mode": "read-only"}),
    (WORKSPACE, CODEX, {}, {}, {"sandbox_mode": "workspace"}),
    (READ_ONLY, CODEX, {"sandbox_mode": "full"}, {}, {"sandbox_mode": "read-only"}),
    (WORKSPACE, CODEX, {"sandbox_mode": "read-only"}, {}, {}),
    (READ_ONLY, CODEX, {"sandbox_mode": "read-only"}, {"sandbox_mode": "default"}, {"sandbox_mode": "read-only"}),
    (DEFAULT, CLAUDE, {}, {}, {}),
    (DEFAULT, CLAUDE, {"approval_mode": "none"}, {}, {"approval_mode": "default"}),
    (AUTO, CLAUDE, {"approval_mode": "none"}, {}, {"approval_mode": "auto"}),
    (AUTO, CLAUDE, {"approval_mode": "always"}, {}, {}),
    (ALWAYS, CLAUDE, {}, {}, {"approval_mode": "always"}),
    # asked for, at or below
    (READ_ONLY, CODEX, {}, {"sandbox_mode": "read-only"}, {}),
    (WORKSPACE, CODEX, {}, {"sandbox_mode": "read-only"}, {}),
    (WORKSPACE, CODEX, {}, {"sandbox_mode": "workspace"}, {}),
    (AUTO, CLAUDE, {}, {"approval_mode": "default"}, {}),
    (AUTO, CLAUDE, {"approval_mode": "none"}, {"approval_mode": "auto"}, {}),
    # an approval mode that opens the sandbox
    (WORKSPACE, CODEX, {}, {"approval_mode": "auto"}, {}),
    (READ_ONLY, CODEX, {}, {"approval_mode": "none", "sandbox_mode": "read-only"}, {}),
    (READ_ONLY, CODEX, {"approval_mode": "auto"}, {}, {"sandbox_mode": "read-only"}),
    (WORKSPACE, CODEX, {"approval_mode": "none"}, {}, {"sandbox_mode": "workspace"}),
    (READ_ONLY, CODEX, {}, {"approval_mode": "always"}, {"sandbox_mode": "read-only"}),
    (READ_ONLY, GEMINI, {}, {"approval_mode": "auto"}, {"sandbox_mode": "read-only"}),
    # a value that the CLI does not have would be ignored: the next stricter one takes its place
    (WORKSPACE, CLAUDE, {}, {}, {"sandbox_mode": "read-only"}),
    (WORKSPACE, CLAUDE, {}, {"sandbox_mode": "workspace"}, {"sandbox_mode": "read-only"}),
    (DEFAULT, CODEX_EXEC, {}, {"approval_mode": "always"}, {}),
    (WORKSPACE, TEMPLATED, {}, {}, {"sandbox_mode": "workspace"}),
    (DEFAULT, DEMO, {}, {}, {}),
    # tools that go unasked are above every ceiling of the approval mode
    (ALWAYS, CLAUDE, {"allowed_tools": ("Bash",), "approval_mode": "always"}, {}, {"allowed_tools": ()}),
    (AUTO, GEMINI, {"allowed_tools": ("run_shell_command",)}, {}, {"allowed_tools": ()}),
    (Rights(max_approval_mode="none"), CLAUDE, {"allowed_tools": ("Bash",)}, {}, {}),
    (READ_ONLY, CODEX, {"allowed_tools": ("Bash",), "sandbox_mode": "read-only"}, {}, {}),
]


@pytest.mark.parametrize(("rights", "spec", "defaults", "options", "expected"), MODES)
def test_a_mode_is_lowered_to_the_ceiling(
    rights: Rights, spec: BackendSpec, defaults: dict[str, Any], options: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert lowered(rights, replace(spec, defaults=defaults), request_on(spec, **options)) == expected


ABOVE: list[tuple[Rights, BackendSpec, dict[str, Any], str, str]] = [
    # rights, backend, asked for, right, value
    (READ_ONLY, CODEX, {"sandbox_mode": "workspace"}, "max_sandbox_mode", "workspace"),
    (READ_ONLY, CODEX, {"sandbox_mode": "full"}, "max_sandbox_mode", "full"),
    (WORKSPACE, CLAUDE, {"sandbox_mode": "full"}, "max_sandbox_mode", "full"),
    (ALWAYS, CLAUDE, {"approval_mode": "default"}, "max_approval_mode", "default"),
    (DEFAULT, CLAUDE, {"approval_mode": "auto"}, "max_approval_mode", "auto"),
    (AUTO, GEMINI, {"approval_mode": "none"}, "max_approval_mode", "none"),
    # an approval mode that opens the sandbox, unless a sandbox is named
    (READ_ONLY, CODEX, {"approval_mode": "auto"}, "max_sandbox_mode", "workspace"),
    (WORKSPACE, CODEX, {"approval_mode": "none"}, "max_sandbox_mode", "full"),
    (WORKSPACE, CODEX_EXEC, {"approval_mode": "none", "sandbox_mode": "default"}, "max_sandbox_mode", "full"),
    (READ_ONLY, CLAUDE, {"approval_mode": "none"}, "max_sandbox_mode", "full"),
]


@pytest.mark.parametrize(("rights", "spec", "options", "right", "value"), ABOVE)
def test_asking_above_a_ceiling_is_refused(rights: Rights, spec: BackendSpec, options: dict[str, Any], right: str, value: str) -> None:
    error = refused(rights, spec, request_on(spec, **options))
    assert error.details == {"right": right, "value": value}


@pytest.mark.parametrize(("rights", "spec", "options"), [(rights, spec, options) for rights, spec, options, _, _ in ABOVE])
def test_what_a_session_kept_is_lowered_and_not_refused(rights: Rights, spec: BackendSpec, options: dict[str, Any]) -> None:
    assert lowered(rights, spec, request_on(spec, inherited=tuple(options), **options))


@pytest.mark.parametrize(("rights", "spec"), [(READ_ONLY, DEMO), (ALWAYS, DEMO), (ALWAYS, CODEX_EXEC), (WORKSPACE, DEMO)])
def test_a_backend_that_cannot_be_limited_is_refused(rights: Rights, spec: BackendSpec) -> None:
    assert "cannot be limited" in refused(rights, spec, request_on(spec)).message


def test_every_value_of_every_ceiling_is_held_on_every_backend() -> None:
    """Whatever is asked for or configured, the run has a mode at or below the ceiling, or is refused."""
    order = ("read-only", "workspace", "full")
    runs = 0
    for spec in (CLAUDE, CODEX, CODEX_EXEC, GEMINI):
        for highest in order[:2]:
            for default in (None, *order):
                for asked in (None, "default", *order):
                    for approval in (None, "default", "auto", "none", "always"):
                        options = {name: mode for name, mode in (("sandbox_mode", asked), ("approval_mode", approval)) if mode}
                        defaults = {"sandbox_mode": default} if default else {}
                        limited = replace(spec, defaults=defaults)
                        try:
                            changes = lowered(Rights(max_sandbox_mode=highest), limited, request_on(spec, **options))
                        except RightMissing:
                            continue
                        mode = {**defaults, **options, **changes}.get("sandbox_mode", "default")
                        rule = spec.options["sandbox_mode"].values or {}
                        is_opened = mode == "default" and approval == "auto" and "codex" in spec.name and highest == "workspace"
                        assert is_opened or (mode in rule and order.index(mode) <= order.index(highest)), (spec.name, defaults, options)
                        runs += 1
    assert runs > 200


MODELS: list[tuple[tuple[str, ...], str | None, str | None, bool]] = [
    # patterns, asked for (with aliases replaced), configured, allowed
    ((), "gpt-5", None, True),
    (("gpt-5",), "gpt-5", None, True),
    (("GPT-*",), "gpt-5", None, True),
    (("gpt-*",), "GPT-5", None, True),
    (("gpt-5",), "gpt-5.2", None, False),
    (("codex/*",), "gpt-5", None, True),
    (("claude/*",), "gpt-5", None, False),
    (("sonnet", "codex/gpt-*"), "gpt-5", None, True),
    (("sonnet[1m]",), "sonnet[1m]", None, True),
    (("gpt-*",), None, "gpt-5", True),
    (("gpt-*",), None, "o3", False),
    (("gpt-*",), None, None, False),
    (("default",), None, None, True),
    (("codex/default",), None, None, True),
    (("claude/default",), None, None, False),
    (("default",), None, "gpt-5", False),
]


@pytest.mark.parametrize(("patterns", "asked", "default", "is_allowed"), MODELS)
def test_models(patterns: tuple[str, ...], asked: str | None, default: str | None, is_allowed: bool) -> None:
    spec = replace(CODEX, defaults={"model": default} if default else {})
    request = request_on(spec, model=asked)
    rights = Rights(models=patterns)
    if is_allowed:
        assert not lowered(rights, spec, request)
    else:
        assert refused(rights, spec, request).details == {"right": "models", "value": f"codex/{asked or default or 'default'}"}


def test_backends() -> None:
    rights = Rights(backends=("gemini", "codex"))
    permit(request_on(CODEX), rights, CODEX)
    error = refused(rights, CLAUDE, request_on(CLAUDE))
    assert error.details == {"right": "backends", "value": "claude"}
    assert "gemini, codex" in error.message


FLAGS: list[tuple[Rights, BackendSpec, str, str | None]] = [
    (Rights(), CLAUDE, "--fallback-model=opus", None),
    (Rights(models=("sonnet",)), CLAUDE, "--fallback-model=opus", "models"),
    (DEFAULT, CLAUDE, "--fallback-model=opus", None),
    (Rights(models=("*",), max_approval_mode="default", max_sandbox_mode="read-only"), CLAUDE, "--tools=Bash", None),
    (READ_ONLY, CODEX, "--disable=x", "max_sandbox_mode"),
    (READ_ONLY, TEMPLATED, "--x", "max_sandbox_mode"),
    (Rights(max_approval_mode="none", max_sandbox_mode="full"), CODEX, "--disable=x", None),
]


@pytest.mark.parametrize(("rights", "spec", "flag", "right"), FLAGS)
def test_a_flag_that_could_evade_a_right_is_refused(rights: Rights, spec: BackendSpec, flag: str, right: str | None) -> None:
    request, name = request_on(spec, extra=(flag,), model="sonnet"), flag.partition("=")[0]
    if right:
        assert refused(rights, spec, request).details == {"right": right, "value": name}
    else:
        permit(request, rights, spec)
    assert (name in extra_of(rights, spec)) is (right is None)


@pytest.mark.parametrize(
    ("spec", "flags", "rights"),
    [
        (CLAUDE, ("--dangerously-skip-permissions",), DEFAULT),
        (CLAUDE, ("--permission-mode", "bypassPermissions"), DEFAULT),
        (CODEX, ("-c", "sandbox_mode=danger-full-access"), READ_ONLY),
        (GEMINI, ("--yolo",), DEFAULT),
    ],
)
def test_an_operator_s_flag_that_sets_a_limited_mode_is_refused_to_limited_keys(
    spec: BackendSpec, flags: tuple[str, ...], rights: Rights
) -> None:
    flagged = replace(spec, extra_args=flags)
    assert "extra_flags" in refused(rights, flagged, request_on(spec)).message
    permit(request_on(spec), UNLIMITED, flagged)


SANDBOXED = Confinement(sandbox=BUBBLEWRAP, limits=RunLimits(processes=9), writable=("$CODEX_HOME|~/.codex",))
LIMITED = Confinement(limits=RunLimits(processes=9))


@pytest.mark.parametrize(
    ("isolation", "own", "issue", "expected"),
    [
        ("none", LIMITED, "no bwrap", LIMITED),
        ("none", SANDBOXED, None, SANDBOXED),
        ("sandbox", LIMITED, None, SANDBOXED),
        ("sandbox", SANDBOXED, None, SANDBOXED),
        ("sandbox", LIMITED, "no bwrap", None),
    ],
)
def test_isolation_is_a_floor(isolation: Any, own: Confinement, issue: str | None, expected: Confinement | None) -> None:
    spec, rights = replace(CODEX, confinement=own, sandboxed=SANDBOXED), Rights(isolation=isolation)
    if expected:
        assert permit(request_on(spec), rights, spec, lambda: issue).confinement == expected
        return
    with pytest.raises(RightMissing, match="no bwrap") as raised:
        permit(request_on(spec), rights, spec, lambda: issue)
    assert raised.value.details["right"] == "isolation"


def test_the_modes_that_a_key_may_ask_for() -> None:
    assert modes_of(WORKSPACE, CODEX, "sandbox_mode") == ["read-only", "workspace"]
    assert modes_of(WORKSPACE, CLAUDE, "sandbox_mode") == ["read-only"]
    assert modes_of(AUTO, CODEX, "approval_mode") == ["always", "auto"]
    assert modes_of(AUTO, CODEX, "sandbox_mode") is None
    assert modes_of(AUTO, CODEX, "effort") is None
