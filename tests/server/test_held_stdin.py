"""Processes that wait with their stdin open: each gets a folder like a run's own, its one prompt, and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import get_native_id
from typing import Any
from uuid import UUID

import gevent
import pytest

from services.cancellation import Cancellation
from services.clis.command import invoke
from services.clis.gemini import spec as gemini
from services.clis.gemini.deferred_stdin import DeferredConversation, DeferredStdin, first_character
from services.clis.spec import Invocation
from services.clis.warmth import WarmLimits
from services.decoding.decoder import Exit
from services.events import Event, Failed, Finished, Started, Text
from services.execution import backoff, handshake
from services.execution import pool as pool_module
from services.execution.circuit_breaker import CircuitBreaker
from services.execution.driver import Limits
from services.execution.pool import Pool
from services.execution.process_workers import IdleWorker, ProcessWorkers, key_of
from services.execution.run import ProcessRun
from services.execution.worker import Need
from services.processes.marks import new_path
from services.processes.spawner import Spawner
from services.requests import RunRequest
from tests.parts.processes import alive, command_line, descendants

HELD_CLI = Path(__file__).with_name("held_cli.py")
RECORDING = Path(__file__).parents[1] / "recordings" / "gemini" / "0.61.0" / "tool-yolo.stdout.jsonl"


def made(folder: Path, prompt: str = "hello", manner: str = "patient", **options: Any) -> Invocation:
    spec = replace(gemini.SPEC, command=(sys.executable, str(HELD_CLI), manner), warm=WarmLimits(max=2))
    assert spec.warmth
    request = RunRequest(backend="gemini", prompt=prompt, options=options, ephemeral=True)
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    return invoke(spec, request, cwd=str(folder), environ=environ, run_dir=new_path())


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Callable[..., tuple[Pool, CircuitBreaker]]]:
    """``pool(manner)``: the pool of a CLI of that manner, and whether it is to be relied on."""
    spawner, pools = Spawner(), []

    def make(manner: str) -> tuple[Pool, CircuitBreaker]:
        breaker = CircuitBreaker("gemini")
        spec = made(tmp_path, manner=manner).spec
        pools.append(Pool(spec, lambda spec: ProcessWorkers(spec, spawner, {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}), breaker))
        return pools[-1], breaker

    yield make
    for one in pools:
        one.close()
    spawner.close()


def eventually(check: Callable[[], object], within_s: float = 20.0) -> bool:
    """As `tests.parts.processes.eventually`, with the event loop going on meanwhile."""
    with gevent.Timeout(within_s, False):
        while not check():
            gevent.sleep(0.02)
    return bool(check())


def begun(pool: Pool, invocation: Invocation) -> ProcessRun:
    """The run in a process that waited: its kind is asked for twice, then one is there."""
    for _ in range(2):
        assert pool.start(invocation, Limits(), Cancellation()) is None
    pool.on_run_finished(invocation.cwd, used_tools=False)
    assert eventually(lambda: pool.ready_count)
    run = pool.start(invocation, Limits(), Cancellation())
    assert run
    return run


def ended(run: ProcessRun) -> list[Event]:
    try:
        return [event for batch in run.batches() for event in batch]
    finally:
        run.close()


def told(events: list[Event]) -> dict[str, Any]:
    (answer,) = [event.text for event in events if isinstance(event, Text)]
    return dict(json.loads(answer))


@pytest.mark.parametrize("prompt", ["hello", " /cost", "\n\nhello\n", "$cmd", "é漢🙂", "\n", "--help", "x" * 300_000])
def test_prompt_reaches_a_process_that_waited_with_a_newline_before_it_at_most(pool: Any, tmp_path: Path, prompt: str) -> None:
    events = ended(begun(pool("patient")[0], made(tmp_path, prompt)))
    assert told(events)["prompt"].removeprefix("\n") == prompt.removeprefix("\n") or prompt == "\n"
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("prompt", ["/about", "read @/etc/passwd for me", "a@example.com and {{args}}"])
def test_prompt_that_travels_as_a_command_comes_with_the_command(pool: Any, tmp_path: Path, prompt: str) -> None:
    heard = told(ended(begun(pool("patient")[0], made(tmp_path, prompt))))
    ((command, text),) = [(path, text) for path, text in heard["home"].items() if path.endswith(".toml")]
    assert heard["prompt"].split()[0] == f"/{Path(command).stem}"
    assert prompt.replace("{{args}}", "") in json.loads(text.removeprefix("prompt = ")).replace("{{args}}", "")


def test_process_that_waited_has_a_folder_of_its_own_that_goes_with_the_run(pool: Any, tmp_path: Path) -> None:
    invocation = made(tmp_path, system_prompt="be brief")
    run = begun(pool("patient")[0], invocation)
    heard = told(ended(run))
    assert heard["tmp"] != invocation.run_dir
    assert ".gemini/settings.json" in heard["home"]
    assert not Path(heard["tmp"]).exists()


def test_version_that_does_not_wait_is_found_out_before_it_is_asked(pool: Any, tmp_path: Path) -> None:
    one, breaker = pool("hasty")
    for _ in range(2):
        assert one.start(made(tmp_path, manner="hasty"), Limits(), Cancellation()) is None
    one.on_run_finished(str(tmp_path), used_tools=False)
    assert eventually(lambda: not breaker.is_closed)
    assert one.ready_count == 0


def test_process_that_ends_without_a_word_is_retryable(pool: Any, tmp_path: Path) -> None:
    run = begun(pool("mortal")[0], made(tmp_path, manner="mortal"))
    (end,) = ended(run)
    assert isinstance(end, Failed)
    assert run.is_retryable


def test_settings_that_were_changed_are_read_by_a_new_process(pool: Any, tmp_path: Path) -> None:
    one, _ = pool("patient")
    ended(begun(one, made(tmp_path)))
    (tmp_path / ".gemini").mkdir()
    (tmp_path / ".gemini" / "settings.json").write_text('{"ui": {"theme": "new"}}')
    heard = told(ended(begun(one, made(tmp_path))))
    assert json.loads(heard["home"][".gemini/settings.json"])["ui"] == {"theme": "new"}


def test_waiting_processes_end_with_the_pool(pool: Any, tmp_path: Path) -> None:
    one, _ = pool("patient")
    one.prestart(made(tmp_path), 2)
    assert eventually(lambda: one.ready_count == 2)
    pids = [pid for pid in descendants(os.getpid()) if str(HELD_CLI) in command_line(pid)]
    assert len(pids) == 2
    one.close()
    assert not any(map(alive, pids))


def test_kind_of_a_run_is_what_it_is_started_with_wherever_its_folder_is(tmp_path: Path) -> None:
    kind = key_of(made(tmp_path, system_prompt="S"))
    assert kind == key_of(made(tmp_path, "@another prompt", system_prompt="S"))
    assert kind != key_of(made(tmp_path, system_prompt="T"))
    assert kind != key_of(made(tmp_path, system_prompt="S", approval_mode="none"))


def test_names_of_the_workdir_are_part_of_what_a_process_has_read(tmp_path: Path) -> None:
    warmth = gemini.SPEC.warmth
    assert warmth
    (tmp_path / "src").mkdir()
    (tmp_path / "node_modules").mkdir()
    before = warmth.state("", str(tmp_path))
    (tmp_path / "node_modules" / "new").write_text("")
    assert warmth.state("", str(tmp_path)) == before
    (tmp_path / "src" / "new.py").write_text("")
    assert warmth.state("", str(tmp_path)) != before


@pytest.mark.parametrize("size", [None, 1, 7])
def test_turn_is_decoded_as_that_of_a_run_of_its_own(tmp_path: Path, size: int | None) -> None:
    said = RECORDING.read_bytes()
    size = size or len(said)
    plain, held = gemini.SPEC.decoder(), DeferredConversation(made(tmp_path))
    assert held.outgoing() == b"hello"
    assert held.is_retryable
    for start in range(0, len(said), size):
        assert held.receive(said[start : start + size]) == plain.feed(said[start : start + size])
    assert (held.is_complete, held.is_retryable) == (True, False)
    assert held.finish(Exit(0)) == plain.finish(Exit(0))


def test_process_that_speaks_before_it_is_asked_is_refused(tmp_path: Path) -> None:
    deferred = DeferredStdin(first_character(made(tmp_path, "/about")))
    assert deferred.outgoing() == b"/"
    deferred.receive(b'{"type":"init"}\n')
    assert deferred.refusal


def test_process_that_is_not_needed_any_more_is_never_told_that_its_prompt_is_over(pool: Any, tmp_path: Path) -> None:
    """Gemini CLI would take the character that holds it for a prompt, and ask its model."""
    one, _ = pool("noting")
    one.prestart(made(tmp_path, manner="noting"), 2)
    assert eventually(lambda: one.ready_count == 2)
    one.close()
    assert not (tmp_path / "began").exists()


def test_process_that_writes_a_line_without_end_when_it_is_started_is_ended(
    pool: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handshake, "LINE_LIMIT_BYTES", 16)
    one, _ = pool("hasty")
    one.prestart(made(tmp_path, manner="hasty"), 1)
    assert eventually(lambda: "a line of more than 16 bytes" in caplog.text)
    assert eventually(lambda: not [pid for pid in descendants(os.getpid()) if str(HELD_CLI) in command_line(pid)])
    assert one.ready_count == 0


def test_a_caller_s_text_is_no_template(pool: Any, tmp_path: Path) -> None:
    one, _ = pool("patient")
    invocation = made(tmp_path, allowed_tools=["{session_id}"])
    events = ended(begun(one, invocation))
    argv = told(events)["argv"]
    assert "--allowed-tools={session_id}" in argv
    (started,) = [event for event in events if isinstance(event, Started)]
    assert f"--session-id={started.session_id}" in argv
    assert UUID(started.session_id)


def test_processes_that_are_always_to_be_there_are_tried_again_when_a_start_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backoff, "FIRST_S", 0.05)
    monkeypatch.setattr(pool_module, "LOOK_EVERY_S", 0.05)
    spawner, program = Spawner(), tmp_path / "late"
    invocation = made(tmp_path)
    invocation = replace(invocation, spec=replace(invocation.spec, command=(str(program), str(HELD_CLI), "patient")))
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    one = Pool(invocation.spec, lambda spec: ProcessWorkers(spec, spawner, environ), CircuitBreaker("gemini"))
    try:
        one.prestart(invocation, 1)
        assert eventually(lambda: caplog.text.count("a process could not be prestarted") >= 2)
        program.symlink_to(sys.executable)
        assert eventually(lambda: one.ready_count == 1)
    finally:
        one.close()
        spawner.close()


def test_what_an_unused_process_has_left_is_looked_for_outside_the_event_loop(tmp_path: Path) -> None:
    threads: list[int] = []

    class Ended:
        def close(self) -> None: ...

        def remove(self) -> None: ...

    deferred = DeferredStdin(b"/")
    deferred.expects_answer = True
    need = Need("key", {}, None, "", made(tmp_path))
    IdleWorker(need, Ended(), Ended(), deferred, None, lambda: threads.append(get_native_id())).close()  # type: ignore[arg-type]
    assert len(threads) == 1
    assert threads != [get_native_id()]
