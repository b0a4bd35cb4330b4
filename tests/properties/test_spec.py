"""No text of a caller is an argument of its own, whatever the rules of a backend are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.clis.spec import BackendSpec
from tests.unit.services.clis.invoked import invoked
from tests.unit.services.clis.test_spec import EVERY


@EVERY
@settings(max_examples=60, deadline=None)
@given(
    prompt=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
    system=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
    tools=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1), max_size=3),
)
def test_no_text_of_a_caller_is_an_argument_of_its_own(spec: BackendSpec, prompt: str, system: str, tools: list[str]) -> None:
    plain = invoked(spec, "x").argv
    argv = invoked(spec, prompt, options={"system_prompt": system, "allowed_tools": tools}).argv
    for word in argv:
        assert word in plain or word.startswith(("--", "model_instructions_file=")) or word == "-c"
    flags = {word.partition("=")[0] for word in argv if word.startswith("--")}
    known = {part.partition("=")[0] for rule in spec.options.values() for part in rule.argv}
    assert flags <= known | {word.partition("=")[0] for word in (*plain, *spec.prompt_args)}
