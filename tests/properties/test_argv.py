"""Whatever a caller's values are, no built-in CLI gets one of them as an argument of its own."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.clis.codex.spec import EXEC
from services.clis.command import invoke
from services.clis.registry import BUILT_IN
from services.clis.safety import ARGV_STRING_LIMIT_BYTES, SAFE_NAME
from services.clis.spec import OPTION_NAMES, BackendSpec, Invocation
from services.depth import VARIABLE as DEPTH
from services.errors import InvalidRequest
from services.requests import RunRequest
from tests.properties.strategies import json_objects, tried, unruly_texts

RUN_DIR = "/run/clinvk-0123456789abcdef"
SPECS = (*BUILT_IN.values(), EXEC)
EVERY = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name}-{spec.conversation.__name__}")

names = st.sampled_from(["m", "gpt-5.2", "claude-3", "a/b"]) | unruly_texts
option_values: dict[str, st.SearchStrategy[Any]] = {
    "model": names,
    "system_prompt": unruly_texts,
    "approval_mode": st.sampled_from(["default", "auto", "none", "always"]) | unruly_texts,
    "sandbox_mode": st.sampled_from(["default", "read-only", "workspace", "full"]) | unruly_texts,
    "max_tokens": st.integers(1),
    "max_turns": st.integers(1),
    "verbose": st.booleans(),
    "allowed_tools": st.lists(unruly_texts, max_size=3) | unruly_texts,
    "json_schema": json_objects,
    "effort": st.sampled_from(["minimal", "low", "medium", "high", "xhigh", "max"]) | unruly_texts,
    "thinking_tokens": st.integers(0),
}
assert option_values.keys() == OPTION_NAMES.keys()


def build(spec: BackendSpec, prompt: str = "hi", **request: Any) -> Invocation:
    return invoke(spec, RunRequest(prompt=prompt, backend=spec.name, **request), cwd="/work", environ={"HOME": "/root"}, run_dir=RUN_DIR)


def words_of_ours(spec: BackendSpec) -> set[str]:
    """What may stand alone in an argv: what is there with no caller's values at all."""
    rules = [rule for option in spec.options.values() for rule in (option, *(option.values or {}).values())]
    fixed = {word for rule in rules for word in rule.argv if "{" not in word}
    return {
        *spec.command,
        *spec.args,
        *spec.prompt_args,
        *spec.ephemeral_args,
        *(word for word in spec.resume_args if "{" not in word),
        *fixed,
        *(f for f, n in spec.allowed_extra.items() if not n),
    }


def starts_of_ours(spec: BackendSpec) -> tuple[str, ...]:
    """What a word with a caller's value in it begins with: a flag and its ``=`` (or a setting's, after ``-c``)."""
    rules = [rule for option in spec.options.values() for rule in (option, *(option.values or {}).values())]
    templates = [word for rule in rules for word in rule.argv if "{" in word] + [
        word for word in spec.resume_args if "{" in word and word != "{}"
    ]
    starts = [word.partition("{")[0] for word in templates] + [f"{flag}=" for flag, count in spec.allowed_extra.items() if count]
    assert all(start.endswith("=") for start in starts), starts
    return tuple(starts)


@EVERY
@settings(max_examples=150, deadline=None)
@given(
    prompt=unruly_texts,
    options=st.fixed_dictionaries({}, optional=option_values),
    resume=st.none() | st.just("0195c0de-0000") | unruly_texts,
    is_ephemeral=st.booleans(),
    data=st.data(),
)
def test_no_value_of_a_caller_stands_alone(
    spec: BackendSpec, prompt: str, options: dict[str, Any], resume: str | None, is_ephemeral: bool, data: st.DataObject
) -> None:
    flags = st.sampled_from([*spec.allowed_extra, "--other", "--model=x", "-c"])
    extra = data.draw(st.lists(flags | unruly_texts | st.builds(lambda flag, value: f"{flag}={value}", flags, unruly_texts), max_size=3))
    made = tried(
        InvalidRequest,
        lambda: build(spec, prompt, options=options, resume=resume, ephemeral=is_ephemeral, extra=tuple(extra)),
    )
    if isinstance(made, InvalidRequest):
        return
    ours, starts = words_of_ours(spec), starts_of_ours(spec)
    for word in made.argv:
        is_session = word == resume and "{}" in spec.resume_args and SAFE_NAME.fullmatch(word)
        assert word in ours or word.startswith(starts) or is_session, word
    for word in (*made.argv, *(f"{name}={value}" for name, value in made.env.items())):
        assert "\0" not in word
        assert len(word.encode()) <= ARGV_STRING_LIMIT_BYTES
    for path in (*made.files, *made.links):
        assert os.path.normpath(path) == path
        assert path.startswith(RUN_DIR + "/")
    assert [name for name in made.env if name.startswith("CLINVK_")] == [DEPTH]


@EVERY
@given(before=unruly_texts, after=unruly_texts)
@settings(deadline=None)
def test_nul_in_what_becomes_an_argument_is_refused(spec: BackendSpec, before: str, after: str) -> None:
    for request in ({"resume": f"{before}\0{after}"}, {"extra": (f"--x={before}\0{after}",)}, {"options": {"model": f"m{before}\0"}}):
        with pytest.raises(InvalidRequest):
            build(spec, **request)
