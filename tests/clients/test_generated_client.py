"""A client that openapi-python-client generates from `/openapi.json`: it takes the whole document, and its calls are understood.

`REQUIRE_CLIENTS=1 ./dev test -m long tests/clients` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.environments import environment_with, run
from tests.parts.server import Server

pytestmark = pytest.mark.long

CALLS = """
import sys
from generated.api.compose import post_api_v1_chain
from generated.api.native import get_api_v1_backends, post_api_v1_prompt
from generated.api.sessions import get_api_v1_sessions, post_api_v1_sessions_session_id_resume
from generated.client import Client
from generated.models import Chain, Prompt, Resume, Step

client = Client(sys.argv[1])
first = post_api_v1_prompt.sync(client=client, body=Prompt(prompt="one", backend="demo"))
again = post_api_v1_sessions_session_id_resume.sync(first.session_id, client=client, body=Resume(prompt="two"))
steps = [Step(prompt="three", backend="demo", name="first-step"), Step(prompt="{{steps.first-step.output}}", backend="demo")]
chain = post_api_v1_chain.sync(client=client, body=Chain(steps=steps))
print(first.output, again.output, *(result.output for result in chain.results), sep="\\n")
print(again.session_id == first.session_id, [session.id for session in get_api_v1_sessions.sync(client=client).sessions] == [first.session_id])
print("demo" in [backend.name for backend in get_api_v1_backends.sync(client=client).backends])
print(post_api_v1_prompt.sync(client=client, body=Prompt(prompt=" ")).error.code)
"""


def test_generated_client(server: Callable[..., Server], tmp_path: Path) -> None:
    one = server()
    programs = environment_with("openapi-python-client>=0.29,<0.30", tmp_path)
    told = run(
        *(programs / "openapi-python-client", "generate", "--url", f"{one.url}/openapi.json", "--output-path", "generated", "--meta=none"),
        cwd=tmp_path,
        PATH=f"{programs}:/usr/bin:/bin",
    )
    assert "Warning" not in told
    first, again, *steps, same, has_demo, code = run(programs / "python", "-c", CALLS, one.url, cwd=tmp_path).splitlines()
    assert [line.rpartition("You said: ")[2] for line in (first, again, steps[0])] == ["one", "two", "three"]
    assert steps[1].endswith(steps[0])
    assert (same, has_demo, code) == ("True True", "True", "invalid_request")
