"""The same answers, events, usage and ends from processes that were there before the request as from those of a run's own.

Every test of another file is done three times: by then the processes that the third asks for are waiting.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Real, Rig
from tests.parts.client import Client, Sent
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Hold, Reply, tokens
from tests.parts.processes import PATIENCE_S, alive, command_line, eventually
from tests.parts.server import LOG_TAIL_CHARS, Server
from tests.real import test_native as native
from tests.real import test_nothing_left as nothing_left
from tests.real import test_prompts_are_text as prompts_are_text

WARM = ("claude", "codex", "gemini")
WAITING = {"claude": "--input-format=stream-json", "codex": "app-server", "gemini": "--session-id="}


@pytest.fixture(scope="module")
def warm_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("warm")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in WARM}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    server = Server(
        folder,
        {"backends": {name: cli.backend | {"warm": {"max": 3}} for name, cli in clis.items()}, "server": {"log_level": "debug"}},
        env,
    )
    yield Rig(server, api, clis)
    try:
        server.stop()
    finally:
        api.stop()


class Ephemeral(Client):
    """Keeps no session, whatever is asked: those that are kept are `test_live_real_cli`'s."""

    def send(self, method: str, path: str, body: Any = None, *more: Any, **named: Any) -> Sent:
        return super().send(method, path, body | {"ephemeral": True} if isinstance(body, dict) else body, *more, **named)


def waiting(real: Real) -> set[int]:
    return {pid for pid in real.server.runs() if WAITING[real.name] in command_line(pid)}


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in WARM])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Real]:
    """A real CLI with warm processes; the test must leave nothing but those that wait."""
    require(request.param)
    rig: Rig = request.getfixturevalue("warm_rig")
    rig.api.forget()
    logged = len(rig.server.log())
    workdir = tmp_path / "project"
    workdir.mkdir()
    server = rig.server
    if request.param == "codex":
        server = copy(server)
        server.client = Ephemeral(server.url)
    one = Real(rig.clis[request.param], server, rig.api, workdir)
    yield one
    rig.api.release_all()
    gone = eventually(lambda: not left(one))
    print(rig.server.log()[logged:][-LOG_TAIL_CHARS:])
    assert gone, "left behind: " + "\n".join(f"{pid}: {command_line(pid)}" for pid in left(one))


def ready(real: Real, folder: Path | None = None) -> set[int]:
    """The processes that wait for runs in ``folder``, by default this test's, once there are any."""
    found: set[int] = set()

    def look() -> bool:
        where = "for every folder" if real.name == "codex" else f"in {folder or real.workdir}"
        found.update(pid for pid in waiting(real) if f"process {pid} waits {where}" in real.server.log())
        return bool(found)

    assert eventually(look), "nothing waits"
    return found


def warm_runs(real: Real) -> int:
    return real.server.log().count(f"{real.name}: a run is warm")


def left(real: Real) -> set[int]:
    """Processes of runs that are over, shells of tools above all."""
    return {pid for pid in real.server.runs() if not any(words in command_line(pid) for words in WAITING.values())}


SAME: list[Callable[[Real], None]] = [
    native.test_answer_is_what_the_model_said,
    native.test_tool_call_is_told_with_its_result,
    native.test_system_prompt_reaches_the_model_as_the_system_s_and_not_the_user_s,
    partial(native.test_each_token_arrives_before_the_model_says_the_next, sse=True),
    native.test_rate_limit_of_the_vendor_ends_a_stream_with_its_code,
    native.test_answer_that_breaks_off_is_an_error_with_no_text_doubled,
    nothing_left.test_time_limit_ends_a_stream_with_a_timeout_event,
    partial(prompts_are_text.test_prompt_is_nothing_but_text, name="skill"),
]
SAME_AT_LENGTH: list[Callable[[Real], None]] = [
    native.test_usage_is_what_the_model_api_reported,
    native.test_model_of_the_request_is_the_one_that_is_asked,
    partial(native.test_stream_loses_and_doubles_nothing, count=2000, sse=False),
    native.test_wrong_key_of_the_vendor_is_told_as_not_logged_in,
    native.test_rate_limit_of_the_vendor_is_the_result_of_the_run,
    native.test_unknown_model_is_told_as_one,
    *(
        partial(prompts_are_text.test_prompt_is_nothing_but_text, name=name)
        for name in ("command of the CLI", "file of the system", "empty lines around")
    ),
]


def name_of(test: object) -> str:
    name = getattr(test, "keywords", {}).get("name", "")
    return f"{getattr(getattr(test, 'func', test), '__name__', test)} {name}".removeprefix("test_").strip()


@pytest.mark.parametrize("test", [*SAME, *(pytest.param(test, marks=pytest.mark.long) for test in SAME_AT_LENGTH)], ids=name_of)
def test_warm_as_cold(real: Real, test: Callable[[Real], None]) -> None:
    for _ in range(2):
        real.api.forget()
        test(real)

    def is_warm() -> bool:
        ready(real)
        before = warm_runs(real)
        real.api.forget()
        test(real)
        return warm_runs(real) == before + 1

    # What is ready may be just going, because of what a tool of the run before has done.
    assert eventually(is_warm)


@pytest.mark.smoke
def test_no_run_sees_anything_of_another(real: Real) -> None:
    for number in range(4):
        secret = f"secret-{number}-{tokens(1)[0]}"
        real.api.script(secret, Reply(text=f"heard {secret}"))
        assert real.ask(secret, ephemeral=True)["output"] == f"heard {secret}"
        (exchange,) = real.api.about(secret)
        assert not any(exchange.mentions(f"secret-{other}-") for other in range(4) if other != number)
        if number:
            ready(real)


@pytest.mark.smoke
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_client_that_leaves_takes_its_tool_s_shell_along(real: Real, streams: bool) -> None:
    for _ in range(3):
        real.api.forget()
        sent = nothing_left.body(real, nothing_left.wait_in_a_tool(real), output_format="stream-json" if streams else "default")
        with real.server.client.send("POST", "/api/v1/prompt", sent):
            assert eventually(lambda: nothing_left.shells(real)), "the tool's shell has not started"
        assert eventually(lambda: not left(real)), [command_line(pid) for pid in left(real)]
    assert not nothing_left.shells(real)


def test_client_that_leaves_stops_the_model(real: Real) -> None:
    for _ in range(3):
        real.api.forget()
        real.api.script("talk", Reply(text=tokens(3), hold=Hold(after=1)))
        with real.server.client.prompt_stream(real.name, "talk", workdir=str(real.workdir)) as stream:
            next(arrival for arrival in stream.lines() if arrival.json["type"] == "message")
        assert real.api.about("talk")[0].client_left.wait(PATIENCE_S)


def test_process_that_is_killed_while_it_waits_costs_no_answer(real: Real) -> None:
    real.api.script("hello", Reply(text="I am here"))
    for _ in range(2):
        real.ask("hello")
    for pid in ready(real):
        os.kill(pid, signal.SIGKILL)
    assert real.ask("hello")["output"] == "I am here"


@pytest.mark.parametrize("real", [pytest.param("gemini", marks=pytest.mark.real_cli)], indirect=True)
def test_process_that_was_never_asked_leaves_no_session_behind(real: Real) -> None:
    home = Path(real.cli.env["GEMINI_CLI_HOME"])
    for _ in range(2):
        real.ask("hello")
    (process,) = ready(real)
    session_id = command_line(process).partition("--session-id=")[2][:8]
    assert list(home.glob(f".gemini/tmp/*/chats/*{session_id}*"))
    asked = len(real.api.exchanges)
    (real.workdir / "GEMINI.md").write_text("another rule")
    assert eventually(lambda: not list(home.glob(f".gemini/tmp/*/chats/*{session_id}*")))
    assert not alive(process)
    assert len(real.api.exchanges) == asked, "it took the end of its stdin for a prompt"


ONLY_CODEX = pytest.mark.parametrize("real", [pytest.param("codex", marks=pytest.mark.real_cli)], indirect=True)


@pytest.fixture
def codex(real: Real) -> Real:
    """With its shared process there."""
    real.ask("start it")
    ready(real)
    return real


@pytest.mark.smoke
@ONLY_CODEX
def test_runs_at_the_same_time_share_one_process_and_each_gets_its_own_answer(codex: Real) -> None:
    processes = waiting(codex)
    hold = Hold(after=1)
    for number in range(6):
        codex.api.script(f"question-{number}", Reply(text=tokens(3, f"answer{number}-"), hold=hold))
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(codex.ask, f"question-{number}", ephemeral=True) for number in range(6)]
        assert eventually(lambda: all(codex.api.about(f"question-{number}") for number in range(6)))
        assert waiting(codex) == processes
        hold.release()
        outputs = [answer.result(30)["output"] for answer in asked]
    assert outputs == ["".join(tokens(3, f"answer{number}-")) for number in range(6)]
    for number in range(6):
        (exchange,) = codex.api.about(f"question-{number}")
        assert not any(exchange.mentions(f"question-{other}") for other in range(6) if other != number)


@ONLY_CODEX
def test_shared_process_that_dies_fails_the_runs_whose_prompt_it_had_and_no_other(codex: Real) -> None:
    """Not only those that it had told something of: what a tool has done meanwhile may not have been told yet."""
    begun, silent = Hold(after=1), Hold(after=0)
    codex.api.script("begun", Reply(text=tokens(3), hold=begun))
    codex.api.script("silent", Reply(text="at last", hold=silent))
    with ThreadPoolExecutor(1) as pool, codex.server.client.prompt_stream("codex", "begun", workdir=str(codex.workdir)) as stream:
        arrivals = stream.lines()
        next(arrival for arrival in arrivals if arrival.json["type"] == "message")
        waits = pool.submit(codex.ask, "silent")
        assert eventually(lambda: codex.api.about("silent"))
        for pid in ready(codex):
            os.kill(pid, signal.SIGKILL)
        assert [arrival.json["type"] for arrival in arrivals][-1] == "error"
        assert waits.result(30)["error"]
    assert len(codex.api.about("silent")) == 1
    assert codex.ask("and now")["output"] == "ok"


@ONLY_CODEX
def test_what_a_tool_left_running_ends_with_its_run_and_its_files_too(codex: Real) -> None:
    command = "echo $TMPDIR > where.txt; echo x > $TMPDIR/left; nohup sleep 3600 > /dev/null 2>&1 & echo begun"
    codex.api.script("leave it", Reply(text="", shell=command), Reply(text="done"))
    before = warm_runs(codex)
    assert codex.ask("leave it", **codex.cli.shell_options)["output"] == "done"
    assert warm_runs(codex) == before + 1
    assert not nothing_left.shells(codex)
    folder = Path((codex.workdir / "where.txt").read_text().strip())
    assert folder.parent.is_dir()
    assert not folder.exists()


def test_session_that_is_kept_can_be_continued_warm_or_not(real: Real) -> None:
    client = Client(real.server.url)
    asked = {"backend": real.name, "workdir": str(real.workdir)}
    for number in range(3):
        real.api.forget()
        for part in ("begin", "go on"):
            real.api.script(f"{part} {number}", Reply(text=f"did {part} {number}"))
        began = client.post("/api/v1/prompt", asked | {"prompt": f"begin {number}"}).json
        went_on = client.post(f"/api/v1/sessions/{began['session_id']}/resume", {"prompt": f"go on {number}"}).json
        assert (went_on["output"], went_on["error"]) == (f"did go on {number}", None)
        (exchange,) = real.api.about(f"go on {number}")
        assert f"begin {number}" in "".join(exchange.user_texts)
