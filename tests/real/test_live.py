"""Sessions that go on in a process that is there, with the real CLIs: the model API sees every earlier turn exactly once, whoever went on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Real, Rig
from tests.parts.clis import NO_WAY_OUT, RealCli, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Hold, Reply, tokens
from tests.parts.processes import alive, eventually
from tests.parts.server import Server
from tests.parts.sessions import begin, fork, resume, show, turns
from tests.real.test_sessions import script, seen, start, transcripts
from tests.real.test_warm import waiting

LIVE = ("claude", "codex")
WORDS = ("question-one", "answer-one", "question-two", "answer-two", "question-three")
BY_HAND: dict[str, Callable[[str, str], list[str]]] = {
    "claude": lambda id, model: ["claude", "-p", f"--model={model}", f"--resume={id}"],
    "codex": lambda id, model: ["codex", "exec", "--skip-git-repo-check", "resume", id, "-"],
}


@pytest.fixture(scope="module")
def live_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("live")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in LIVE}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    backends = {name: cli.backend | {"warm": {"max": 2, "live_max": 8}} for name, cli in clis.items()}
    server = Server(folder, {"backends": backends, "server": {"log_level": "debug"}}, env)
    try:
        yield Rig(server, api, clis)
        server.stop()
    finally:
        api.stop()


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in LIVE])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Real:
    """A real CLI whose sessions go on in processes that are there: Codex's shared one is."""
    require(request.param)
    rig: Rig = request.getfixturevalue("live_rig")
    rig.api.forget()
    workdir = tmp_path / "project"
    workdir.mkdir()
    one = Real(rig.clis[request.param], rig.server, rig.api, workdir)
    if one.name == "codex":
        one.ask("start it", ephemeral=True)
        assert eventually(lambda: "waits for every folder" in rig.server.log())
    script(one, "one", "two", "three", "four")
    return one


def goes_on(real: Real, id: str, prompt: str, **fields: Any) -> Any:
    """The answer of a turn that went on in a process that was there."""
    before = real.server.log().count(f"{real.name}: a run is warm")
    answer = resume(real.server.client, id, prompt, **fields)
    assert (answer.status, answer.json["error"]) == (200, None)
    assert real.server.log().count(f"{real.name}: a run is warm") == before + 1
    return answer.json


def starts_anew(real: Real, id: str, prompt: str, **fields: Any) -> Any:
    before = real.server.log().count(f"{real.name}: a run is warm")
    answer = resume(real.server.client, id, prompt, **fields)
    assert (answer.status, answer.json["error"]) == (200, None)
    assert real.server.log().count(f"{real.name}: a run is warm") == before
    return answer.json


def by_hand(cli: RealCli, workdir: Path, cli_id: str, prompt: str) -> None:
    env = {"PATH": cli_path(), "HOME": str(workdir), **NO_WAY_OUT, **cli.env}
    argv = BY_HAND[cli.name](cli_id, cli.model)
    done = subprocess.run(argv, input=prompt.encode(), env=env, cwd=workdir, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()


def new_transcript(real: Real, before: list[Path]) -> Path:
    (path,) = {*transcripts(real)} - {*before}
    return path


@pytest.mark.smoke
def test_turns_go_on_in_one_process_and_are_told_once(real: Real) -> None:
    id = start(real, "question-one")
    processes = waiting(real)
    answers = [goes_on(real, id, "question-two"), goes_on(real, id, "question-three")]
    assert waiting(real) == processes
    assert seen(real, *WORDS) == [1, 1, 1, 1, 1]
    assert [answer["output"] for answer in answers] == ["answer-two", "answer-three"]
    assert [answer["token_usage"]["input_tokens"] for answer in answers] == [210, 310]
    assert [turn["token_usage"]["input_tokens"] for turn in turns(real.server.client, id)] == [110, 210, 310]
    if real.name == "claude":
        assert [answer["cost_usd"] for answer in answers] == pytest.approx([633e-6, 948e-6])  # 3, 0.3 and 15 dollars a million


def test_a_session_whose_process_was_killed_knows_everything(real: Real) -> None:
    id = start(real, "question-one")
    goes_on(real, id, "question-two")
    for pid in waiting(real):
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not any(map(alive, waiting(real))))
    assert resume(real.server.client, id, "question-three").json["output"] == "answer-three"
    assert seen(real, *WORDS) == [1, 1, 1, 1, 1]


@pytest.mark.smoke
def test_a_turn_with_other_options_has_them(real: Real) -> None:
    id = start(real, "question-one")
    turn = starts_anew if real.name == "claude" else goes_on
    turn(real, id, "question-two", system_prompt="You are a pirate-7.")
    assert "pirate-7" in real.api.system_text(real.cli.dialect)
    turn(real, id, "question-three", model="claude-opus-4-5" if real.name == "claude" else "gpt-5-codex")
    (exchange,) = real.api.about("question-three")
    assert exchange.model in ("claude-opus-4-5", "gpt-5-codex")
    assert seen(real, *WORDS) == [1, 1, 1, 1, 1]


def test_a_session_that_was_continued_by_hand_knows_that_too(real: Real) -> None:
    before = transcripts(real)
    id = start(real, "question-one")
    cli_id = new_transcript(real, before).stem[-36:]
    by_hand(real.cli, real.workdir, cli_id, "question-two")
    (starts_anew if real.name == "claude" else goes_on)(real, id, "question-three")
    assert seen(real, *WORDS) == [1, 1, 1, 1, 1]


def test_what_was_answered_can_be_continued_by_hand_at_once(real: Real) -> None:
    before = transcripts(real)
    id = start(real, "question-one")
    path = new_transcript(real, before)
    for number, (prompt, next_) in enumerate([("question-two", "question-three"), ("question-four", "question-one again")], 1):
        resume(real.server.client, id, prompt)
        by_hand(real.cli, real.workdir, path.stem[-36:], next_)
        assert seen(real, "question-one", "answer-one", prompt)[2] == 1, number


def test_a_fork_and_its_parent_go_on_apart(real: Real) -> None:
    id = start(real, "question-one")
    forked = fork(real.server.client, id)["id"]
    goes_on(real, id, "question-two")
    resume(real.server.client, forked, "question-three")
    assert seen(real, *WORDS) == [1, 1, 0, 0, 1]
    goes_on(real, id, "question-four")
    assert seen(real, *WORDS, "question-four") == [1, 1, 1, 1, 0, 1]
    goes_on(real, forked, "question-four")
    assert seen(real, *WORDS, "question-four") == [1, 1, 0, 0, 1, 1]


def test_a_deleted_session_leaves_no_file_and_no_process(real: Real) -> None:
    before, processes = transcripts(real), waiting(real)
    id = start(real, "question-one")
    goes_on(real, id, "question-two")
    assert real.server.client.ask("DELETE", f"/api/v1/sessions/{id}").status == 200
    assert transcripts(real) == before
    if real.name == "claude":
        assert not waiting(real) - processes


@pytest.mark.smoke
def test_a_turn_that_its_client_left_is_interrupted_and_the_next_one_goes_on(real: Real) -> None:
    real.api.script("question-slow", Reply(text=tokens(3), hold=Hold(after=1)))
    id = start(real, "question-one")
    body = {"prompt": "question-slow", "output_format": "stream-json"}
    with real.server.client.open("POST", f"/api/v1/sessions/{id}/resume", body) as stream:
        next(arrival for arrival in stream.lines() if arrival.json["type"] == "message")
        assert resume(real.server.client, id, "question-two").status == 409
    assert real.api.about("question-slow")[0].client_left.wait(5)
    assert eventually(lambda: show(real.server.client, id)["status"] == "idle")
    assert resume(real.server.client, id, "question-three").json["output"] == "answer-three"
    assert seen(real, "question-one", "answer-one", "question-three") == [1, 1, 1]
    assert resume(real.server.client, id, "question-four").json["output"] == "answer-four"


def test_what_a_turn_s_tool_left_running_ends_with_the_turn(real: Real) -> None:
    command = "nohup sleep 3600 > /dev/null 2>&1 & echo begun"
    real.api.script("leave it", Reply(text="", shell=command), Reply(text="done"))
    id = begin(real.server.client, real.name, "leave it", workdir=str(real.workdir), **real.cli.shell_options)
    assert not [pid for pid in real.server.runs() if b"sleep\0003600" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert resume(real.server.client, id, "question-two", **real.cli.shell_options).json["output"] == "answer-two"


def test_after_a_turn_that_used_a_tool_the_session_goes_on(real: Real) -> None:
    real.api.script("question-tool", Reply(text="", shell="echo used > made.txt"), Reply(text="done"))
    id = begin(real.server.client, real.name, "question-tool", workdir=str(real.workdir), **real.cli.shell_options)
    assert (real.workdir / "made.txt").read_text() == "used\n"
    goes_on(real, id, "question-two", **real.cli.shell_options)
    assert seen(real, "question-tool", "question-two") == [1, 1]


@pytest.mark.parametrize("real", [pytest.param("claude", marks=pytest.mark.real_cli)], indirect=True)
def test_a_schema_holds_for_every_turn_that_asks_for_it(real: Real) -> None:
    id = start(real, "question-one")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    for prompt, fields in (
        ("question-two", {"response_format": form}),
        ("question-three", {"response_format": form}),
        ("question-four", {}),
    ):
        body = {"model": f"claude/{real.cli.model}", "messages": [{"role": "user", "content": prompt}], **fields}
        assert real.server.client.ask("POST", "/openai/v1/chat/completions", body, {"X-Clinvk-Session": id}).status < 503
    for prompt, has_schema in (("question-two", True), ("question-three", True), ("question-four", False)):
        tools = [tool["name"] for tool in real.api.about(prompt)[0].body["tools"]]
        assert ("StructuredOutput" in tools) == has_schema, prompt
