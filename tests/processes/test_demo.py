"""The demo backend's CLI as a real process."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.clis.demo.spec import SPEC
from services.decoding.decoder import Exit
from services.events import Event, Finished, Started, Text
from services.usage import Usage
from tests.unit.services.clis.invoked import invoked
from tests.unit.services.decoding.recorded import decode, failed, finished, text_of


def run(tmp_path: Path, prompt: str, **request: Any) -> list[Event]:
    invocation = invoked(SPEC, prompt, run_dir=str(tmp_path / "run"), **request)
    invocation.prepare()
    done = subprocess.run(invocation.argv, input=invocation.stdin, env=invocation.env, capture_output=True, timeout=30, check=False)
    return decode(SPEC.decoder(), [done.stdout], Exit(done.returncode, done.stderr.decode()))


def test_it_repeats_the_prompt_and_says_what_it_is(tmp_path: Path) -> None:
    events = run(tmp_path, "What is 2 + 2?\nThanks, 你好 😀")
    assert text_of(events).startswith("Hello! This is demo-1, clinvk's demo backend")
    assert text_of(events).endswith("You said: What is 2 + 2?\nThanks, 你好 😀")
    assert isinstance(events[0], Started)
    pieces = sum(isinstance(event, Text) for event in events)
    assert pieces > 10
    assert finished(events).usage == Usage(8, pieces)


def test_the_same_prompt_has_the_same_answer(tmp_path: Path) -> None:
    one, other = (text_of(run(tmp_path / name, "x [[demo delay_ms=0]]")) for name in ("a", "b") if not (tmp_path / name).mkdir())
    assert one == other


def test_it_honours_its_options(tmp_path: Path) -> None:
    events = run(tmp_path, "hi", resume="s-1", options={"model": "demo-2", "system_prompt": "--be {kind}", "max_tokens": 200})
    assert events[0] == Started("s-1", "demo-2")
    assert "My instructions begin with: --be {kind}" in text_of(events)


def test_max_tokens_cuts_the_answer(tmp_path: Path) -> None:
    events = run(tmp_path, "hi", options={"max_tokens": 2})
    assert (text_of(events), events[-1]) == ("Hello! This", Finished(0, "max_tokens", Usage(1, 2)))


@pytest.mark.parametrize(("prompt", "text"), [("[[demo tokens=3 delay_ms=0]]", "word1 word2 word3"), ("a [[demo tokens=1]] b", "word1")])
def test_directives(tmp_path: Path, prompt: str, text: str) -> None:
    assert text_of(run(tmp_path, prompt)) == text


def test_it_fails_when_asked_to(tmp_path: Path) -> None:
    events = run(tmp_path, "[[demo fail=rate limit reached delay_ms=0]]")
    assert text_of(events) == "Hello! This is"
    assert (failed(events).kind, failed(events).message, failed(events).exit_code) == ("rate_limited", "rate limit reached", 1)


def test_no_prompt_is_refused(tmp_path: Path) -> None:
    assert "no prompt on stdin" in failed(run(tmp_path, " \n")).message


@pytest.mark.parametrize(
    "prompt", ["[[demo tokens=-1]]", "[[demo tokens=x delay_ms=]]", "[[demo ]]", "[[demo tokens=99999999999999]]", "[[demo"]
)
def test_odd_directives_do_no_harm(tmp_path: Path, prompt: str) -> None:
    assert isinstance(run(tmp_path, prompt)[-1], Finished)
