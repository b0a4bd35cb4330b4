"""The runner over real processes: `sh` stands in for a CLI, its stdin is the script."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import gevent
import pytest

from services.access.rights import Rights
from services.admission import AdmissionControl
from services.cancellation import CLIENT_GONE, Cancellation
from services.clis.probe import Prober
from services.clis.spec import BackendSpec
from services.decoding.rules import Rule, RulesDecoder
from services.decoding.text import PlainDecoder
from services.errors import BackendUnavailable, InvalidRequest, QueueFull
from services.events import Batch, Event, Failed, Finished, Text, ToolCall, ToolProgress, ToolResult
from services.execution.driver import Limits
from services.execution.run import ProcessDriver
from services.processes.spawner import Spawner
from services.requests import RunRequest
from services.runner import Runner
from services.workdir import WorkdirRules
from tests.parts.processes import alive, eventually

SHELL = BackendSpec(name="shell", command=("sh",), decoder=PlainDecoder)
SLEEP_WITH_CHILD = "echo $$; setsid sleep 600 & echo $!; sleep 600"


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs' folders of this test alone: other servers on the machine come and go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    yield spawner
    spawner.close()


def runner(spawner: Spawner, limits: Limits | None = None, places: int = 4, queue_limit: int = 4) -> Runner:
    backends = {spec.name: spec for spec in (SHELL, replace(SHELL, name="missing", command=("no-such-cli",), install_hint="install it"))}
    return Runner(
        backends,
        driver=ProcessDriver(spawner),
        admission=AdmissionControl(places, queue_limit=queue_limit, queue_timeout_s=5, backend_limits={}),
        prober=Prober(os.environ),
        workdirs=WorkdirRules(),
        limits=limits or Limits(),
        environ=os.environ,
    )


def shell(script: str, **more: object) -> RunRequest:
    return RunRequest(backend="shell", prompt=script, **more)  # type: ignore[arg-type]


def text_of(batch: Batch) -> str:
    return "".join(event.text for event in batch if isinstance(event, Text))


def begin(runner: Runner, request: RunRequest, cancellation: Cancellation | None = None) -> tuple[Iterator[Batch], list[int]]:
    """A stream of `SLEEP_WITH_CHILD` that has begun, and the pids it told."""
    stream = runner.stream(request, cancellation)
    told = ""
    while told.count("\n") < 2:
        told += text_of(next(stream))
    return stream, [int(word) for word in told.split()]


def rest(stream: Iterator[Batch]) -> list[Event]:
    return [event for batch in stream for event in batch]


def run_dirs() -> list[str]:
    return [name for name in os.listdir(tempfile.gettempdir()) if name.startswith("clinvk-")]


def test_a_run_is_the_fold_of_its_events(spawner: Spawner) -> None:
    result = runner(spawner).run(shell("echo hello; exit 0"))
    assert (result.output, result.exit_code, result.failure) == ("hello\n", 0, None)


def test_a_cli_that_fails_is_a_result(spawner: Spawner) -> None:
    result = runner(spawner).run(shell("echo partial; echo because >&2; exit 7"))
    assert result.failure
    assert (result.output, result.exit_code, result.failure.kind) == ("partial\n", 7, "backend")
    assert "because" in result.failure.message


def test_every_run_has_a_private_folder_that_is_removed(spawner: Spawner) -> None:
    result = runner(spawner).run(shell('echo "$TMPDIR"; stat -c %a "$TMPDIR"; touch "$TMPDIR/left"'))
    folder, mode = result.output.split()
    assert mode == "700"
    assert not Path(folder).exists()


def test_the_time_limit_ends_the_whole_tree(spawner: Spawner) -> None:
    stream, pids = begin(runner(spawner), shell(SLEEP_WITH_CHILD, timeout_s=0.3))
    (end,) = rest(stream)
    assert isinstance(end, Failed)
    assert end.kind == "timeout"
    assert "0.3 s" in end.message
    assert not [pid for pid in pids if alive(pid)]


def test_the_time_limit_holds_while_nobody_takes_the_events(spawner: Spawner) -> None:
    stream, pids = begin(runner(spawner), shell(SLEEP_WITH_CHILD, timeout_s=0.3))
    with gevent.Timeout(10):
        while any(map(alive, pids)):
            gevent.sleep(0.02)
    assert isinstance(rest(stream)[-1], Failed)


def test_a_request_cannot_lengthen_the_time_limit(spawner: Spawner) -> None:
    result = runner(spawner, Limits(request_timeout_s=0.2)).run(shell("sleep 600", timeout_s=600))
    assert result.failure
    assert result.failure.kind == "timeout"


def test_a_silent_cli_is_stopped_and_the_setting_is_named(spawner: Spawner) -> None:
    result = runner(spawner, Limits(idle_output_timeout_s=0.2)).run(shell("echo begun; sleep 600"))
    assert result.failure
    assert result.output == "begun\n"
    assert "idle_output_timeout_secs" in result.failure.message


def test_silence_gives_empty_batches_for_keep_alives(spawner: Spawner) -> None:
    with runner(spawner, Limits(keepalive_s=0.01)).stream(shell("sleep 600")) as stream:
        assert [next(stream), next(stream)] == [[], []]


TOOLS = (
    Rule("text", {"type": "text"}, {"text": "text"}),
    Rule("tool_call", {"type": "call"}, {"id": "id", "name": "name"}),
    Rule("tool_result", {"type": "result"}, {"id": "id"}),
)
CALL, RESULT, TEXT = (f'echo \'{{"type": "{kind}", "id": "7", "name": "make", "text": "made"}}\'' for kind in ("call", "result", "text"))


def test_a_stream_reports_on_an_open_call_until_its_result(spawner: Spawner) -> None:
    backends = {"shell": replace(SHELL, decoder=partial(RulesDecoder, TOOLS))}
    one = runner(spawner)
    one.reconfigure(backends, workdirs=WorkdirRules(), limits=Limits(keepalive_s=0.05, tool_progress_s=0.3))
    events = rest(one.stream(shell(f"{CALL}; sleep 1; {RESULT}; {TEXT}")))
    reports = [event for event in events if isinstance(event, ToolProgress)]
    assert reports
    assert {(report.id, report.name) for report in reports} == {("7", "make")}
    assert len(reports) <= reports[-1].elapsed_s / 0.3
    assert [type(event) for event in events if event not in reports] == [ToolCall, ToolResult, Text, Finished]


@pytest.mark.parametrize(
    ("script", "setting"),
    [("yes", "max_output_bytes"), ("head -c 3000000 /dev/zero | tr '\\0' x; sleep 600", "line_limit_bytes")],
)
def test_too_much_output_stops_the_run_and_the_limit_is_named(spawner: Spawner, script: str, setting: str) -> None:
    limits = Limits(max_output_bytes=5_000_000, line_limit_bytes=1_000_000)
    result = runner(spawner, limits).run(shell(script))
    assert result.failure
    assert setting in result.failure.message


def test_a_cancelled_run_ends_the_tree_and_says_so(spawner: Spawner) -> None:
    cancellation = Cancellation()
    stream, pids = begin(runner(spawner), shell(SLEEP_WITH_CHILD), cancellation)
    gevent.spawn(cancellation.cancel, CLIENT_GONE)
    assert rest(stream) == [CLIENT_GONE]
    assert not [pid for pid in pids if alive(pid)]


def test_a_stream_that_is_closed_early_leaves_nothing(spawner: Spawner) -> None:
    before = run_dirs()
    desk = runner(spawner)
    stream, pids = begin(desk, shell(SLEEP_WITH_CHILD))
    stream.close()  # type: ignore[attr-defined]
    assert not [pid for pid in pids if alive(pid)]
    assert (desk.admission.running, run_dirs()) == (0, before)


def test_a_stream_that_is_never_begun_can_be_closed(spawner: Spawner) -> None:
    desk = runner(spawner)
    desk.stream(shell("sleep 600")).close()
    assert desk.admission.running == 0


def test_a_stop_sequence_cuts_the_text_and_stops_the_cli(spawner: Spawner) -> None:
    stream = runner(spawner).stream(shell("echo $$ one STOP two; sleep 600", stop=("STOP",)))
    events = rest(stream)
    text = "".join(event.text for event in events if isinstance(event, Text))
    assert text.endswith(" one ")
    assert events[-1] == Finished(stop_reason="stop_sequence", stop_sequence="STOP")
    assert eventually(lambda: not alive(int(text.split()[0])))


def test_what_can_be_refused_is_refused_before_the_stream(spawner: Spawner) -> None:
    desk = runner(spawner, places=1, queue_limit=0)
    with pytest.raises(InvalidRequest, match="configured: missing, shell"):
        desk.stream(RunRequest(backend="nobody", prompt="x"))
    with pytest.raises(InvalidRequest, match="prompt is empty"):
        desk.stream(shell("  \n"))
    with pytest.raises(BackendUnavailable, match="install it"):
        desk.stream(RunRequest(backend="missing", prompt="x"))
    with desk.stream(shell("sleep 600")), pytest.raises(QueueFull):
        desk.stream(shell("true"))
    assert desk.admission.running == 0


def test_fifty_runs_at_once_each_get_their_own_answer(spawner: Spawner) -> None:
    desk = runner(spawner, places=8, queue_limit=50)
    results = [gevent.spawn(desk.run, shell(f"echo {n}", caller=str(n % 5))) for n in range(50)]
    gevent.joinall(results, raise_error=True)
    assert [job.value.output for job in results] == [f"{n}\n" for n in range(50)]
    assert (desk.admission.running, desk.admission.queued) == (0, 0)


def supervisor_of(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def test_a_run_whose_supervisor_is_killed_has_failed(spawner: Spawner) -> None:
    stream, (pid, _) = begin(runner(spawner), shell(SLEEP_WITH_CHILD))
    os.kill(supervisor_of(pid), signal.SIGKILL)
    end = rest(stream)[-1]
    assert isinstance(end, Failed)
    assert end.exit_code is None
    assert end.message.startswith("the CLI was stopped before it had finished")


def test_a_cli_that_closes_its_output_and_stays_has_failed(spawner: Spawner) -> None:
    result = runner(spawner, Limits(leave_grace_s=0.1)).run(shell("echo half; exec >&-; sleep 600"))
    assert result.failure
    assert (result.output, result.exit_code) == ("half\n", None)


def test_a_cli_that_stays_after_its_last_line_has_done_its_work(spawner: Spawner) -> None:
    rules = (Rule("message", {}, {"text": "t"}), Rule("done", {"t": "all"}, {}))
    desk = runner(spawner, Limits(leave_grace_s=0.1))
    desk.backends = {"shell": replace(SHELL, decoder=partial(RulesDecoder, rules))}
    result = desk.run(shell("""echo '{"t": "all"}'; sleep 600"""))
    assert (result.output, result.exit_code, result.failure) == ("all", 0, None)


def test_no_other_backend_answers_that_the_key_may_not_use(spawner: Spawner) -> None:
    one = runner(spawner)
    one.backends = {
        name: replace(SHELL, name=name, command=command, fallback=fallback)
        for name, command, fallback in (("first", ("no-such-cli",), ("second", "third")), ("second", ("sh",), ()), ("third", ("sh",), ()))
    }
    one.access.replace({"all": Rights(), "some": Rights(backends=("first", "third")), "none": Rights(backends=("first",))})

    def answered_by(owner: str) -> str:
        return one.run(replace(shell("echo hello"), backend="first", owner=owner)).backend

    assert (answered_by("all"), answered_by("some")) == ("second", "third")
    with pytest.raises(BackendUnavailable, match="no-such-cli"):
        answered_by("none")
