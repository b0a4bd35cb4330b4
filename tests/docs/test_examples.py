"""The worked example of the backends guide, run: opencode by config, with a program in its place that plays what the real one wrote."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ServerFactory
from tests.docs.blocks import blocks_of
from tests.parts.server import ROOT, Server

RECORDED = Path(__file__).parent / "opencode"
"""Of opencode 1.18.33 (`opencode run --format json -m fake/fake-model`, the prompt on stdin), at a model API that was not a real one."""

STANDS_IN = """#!{python} -IS
import json, os, pathlib, sys
here = pathlib.Path({here!r})
prompt = sys.stdin.read()
(here / "told.json").write_text(json.dumps({{"argv": sys.argv[1:], "prompt": prompt, "cwd": os.getcwd()}}))
sys.stdout.write((pathlib.Path({recorded!r}) / f"{{prompt.strip()}}.jsonl").read_text())
sys.exit(1 if prompt.startswith("err") else 0)
"""


def guide(name: str) -> dict[str, object]:
    """The configuration of the guide that has this backend."""
    configurations = (yaml.safe_load(block.text) for block in blocks_of(ROOT / "docs" / "backends.md") if block.kind == "yaml")
    (found,) = (one for one in configurations if name in one["backends"])
    return found


@pytest.fixture
def opencode(server: ServerFactory, tmp_path: Path) -> Server:
    program = tmp_path / "bin" / "opencode"
    program.parent.mkdir()
    program.write_text(STANDS_IN.format(python=sys.executable, here=str(tmp_path), recorded=str(RECORDED)))
    program.chmod(0o755)
    return server(guide("opencode"), {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"})


def test_the_worked_example_answers_and_its_session_goes_on(opencode: Server, tmp_path: Path) -> None:
    answer = opencode.client.prompt("opencode", "tool", model="anthropic/claude-sonnet-4-5")
    assert answer.status == 200, answer.body
    assert answer.json["output"] == "tok0 tok1 tok2 tok3 tok4"
    assert (answer.json["error"], answer.json["token_usage"]["input_tokens"]) == (None, 200)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["argv"] == ["run", "--format", "json", "--model=anthropic/claude-sonnet-4-5"]

    again = opencode.client.post(f"/api/v1/sessions/{answer.json['session_id']}/resume", {"prompt": "tool"})
    assert again.status == 200, again.body
    assert "--session=ses_e041a5f62ffe00WDKrPtI3Zp6p" in json.loads((tmp_path / "told.json").read_text())["argv"]


def test_the_worked_example_streams_its_tools(opencode: Server) -> None:
    events = opencode.client.prompt("opencode", "tool", output_format="stream-json").body.splitlines()
    kinds = [json.loads(line)["type"] for line in events]
    assert [kind for kind in kinds if kind != "token_usage"] == ["init", "tool_use", "tool_result", "message", "done"]


def test_the_worked_example_tells_a_failure_of_the_vendor_s(opencode: Server) -> None:
    answer = opencode.client.prompt("opencode", "err-401")
    assert (answer.status, answer.json["error"]["code"]) == (503, "backend_unavailable")
    assert "fake upstream says 401" in answer.json["error"]["message"]


def test_a_plain_command_is_a_backend(server: ServerFactory) -> None:
    answer = server(guide("upper")).client.prompt("upper", "say hello")
    assert answer.json["output"].strip() == "SAY HELLO"


def test_the_worked_example_counts_every_step_and_what_came_from_the_cache(opencode: Server) -> None:
    answer = opencode.client.prompt("opencode", "cached")
    steps = [json.loads(line)["part"].get("tokens") for line in (RECORDED / "cached.jsonl").read_text().splitlines()]
    assert sum(tokens["total"] for tokens in steps if tokens) == 718
    usage = answer.json["token_usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["cached_tokens"]) == (700, 18, 100)
