"""Sessions over a real process: a CLI that keeps its own sessions (`notes_cli`), or does not."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import time_ns

import gevent
import pytest
from gevent.event import Event as Signal
from sqlalchemy import text

from services.access.scope import EVERYONE
from services.admission import AdmissionControl
from services.cancellation import CLIENT_GONE, Cancellation
from services.clis.probe import Prober
from services.clis.session_files import SessionFiles
from services.clis.spec import BackendSpec
from services.decoding.rules import Rule, RulesDecoder
from services.decoding.text import PlainDecoder
from services.errors import BackendUnavailable, Conflict, InvalidRequest, NotFound, QueueFull, StoreUnavailable
from services.events import Batch, Event, Failed, Finished, Started
from services.execution.driver import Limits
from services.execution.run import ProcessDriver
from services.fold import collect
from services.processes.spawner import Spawner
from services.requests import RunRequest, RunResult
from services.run_stream import BUG
from services.runner import Runner
from services.sessions.conversations import About, Conversations
from services.sessions.upkeep import Upkeep
from services.store.db import to_url
from services.store.records import Filter, Session, Turn
from services.store.sessions import SessionStore
from services.usage import Usage
from services.workdir import WorkdirRules
from tests.parts.processes import eventually

RULES = (
    Rule("text", {"type": "text"}, {"text": "text"}),
    Rule("started", {"type": "started"}, {"session_id": "session", "model": "model"}),
    Rule("done", {"type": "done"}, {"input_tokens": "usage.input", "output_tokens": "usage.output"}),
    Rule("error", {"type": "error"}, {"message": "message"}),
)
FILES = SessionFiles(variable="NOTES_HOME", folder=".notes", transcripts=("chats/{}.txt",), companions=("chats/{}",))
NOTES = BackendSpec(
    name="notes",
    command=(sys.executable, "-I", "-S", str(Path(__file__).with_name("notes_cli.py"))),
    decoder=partial(RulesDecoder, RULES),
    resume_args=("--session={}",),
    can_resume=True,
    session_files=FILES,
    ephemeral_args=("--ephemeral",),
    can_be_ephemeral=True,
    vendor_env=("NOTES_*",),
    version_args=(),
)
FORGETFUL = replace(NOTES, name="forgetful", can_resume=False, resume_args=(), session_files=None)
SECRETIVE = replace(NOTES, name="secretive", session_files=None)
MISSING = replace(NOTES, name="missing", command=("no-such-cli",))


class Desk:
    """Conversations with all that they need, and where things are."""

    def __init__(self, tmp_path: Path, spawner: Spawner, places: int = 4) -> None:
        self.home = tmp_path / "notes"
        self.chats = self.home / "chats"
        self.chats.mkdir(parents=True)
        self.workdir = tmp_path / "project"
        self.workdir.mkdir()
        environ = {"PATH": os.environ["PATH"], "NOTES_HOME": str(self.home)}
        self.store = SessionStore(to_url("", str(tmp_path / "home")))
        self.runner = runner = Runner(
            {spec.name: spec for spec in (NOTES, FORGETFUL, SECRETIVE, MISSING)},
            driver=ProcessDriver(spawner),
            admission=AdmissionControl(places, queue_limit=0, queue_timeout_s=1, backend_limits={}),
            prober=Prober(environ),
            workdirs=WorkdirRules(),
            limits=Limits(),
            environ=environ,
        )
        self.talk = Conversations(runner, self.store, environ=environ, default_tags=("default",))

    def request(self, prompt: str, backend: str = "notes", **more: object) -> RunRequest:
        return RunRequest(**{"prompt": prompt, "backend": backend, "workdir": str(self.workdir), "request_id": "r"} | more)  # type: ignore[arg-type]

    def begin(self, prompt: str, backend: str = "notes", **more: object) -> tuple[Session, RunResult]:
        with self.talk.begin(self.request(prompt, backend, **more)) as stream:
            result = collect(stream)
        return self.store.get(result.session_id or "", EVERYONE), result

    def resume(self, session: Session, prompt: str, *, rebuild: bool = False) -> RunResult:
        current = self.store.get(session.id, EVERYONE)
        with self.talk.resume(current, self.request(prompt, current.backend), rebuild=rebuild) as stream:
            return collect(stream)

    def turns(self, session_id: str | None) -> tuple[Turn, ...]:
        return self.store.turns(self.store.get(session_id or "", EVERYONE))

    def files(self) -> list[str]:
        return sorted(path.name for path in self.chats.iterdir())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    spawner = Spawner()
    desk = Desk(tmp_path, spawner)
    yield desk
    desk.store.close()
    spawner.close()


def test_a_prompt_begins_a_session_under_our_own_id(desk: Desk) -> None:
    session, result = desk.begin("one", options={"model": None, "verbose": True})
    assert (result.output, result.usage, result.session_id) == ("known: one", Usage(1, 2), session.id)
    assert (session.status, session.turn_count, session.model, session.workdir) == ("idle", 1, "notes-1", str(desk.workdir))
    assert (session.tags, session.options, session.usage) == (("default",), {"verbose": True}, Usage(1, 2))
    assert desk.files() == [f"{session.cli_session_id}.txt"]
    assert session.cli_session_id != session.id
    (turn,) = desk.store.turns(session)
    assert (turn.prompt, turn.output, turn.status, turn.request_id, turn.usage) == ("one", "known: one", "finished", "r", Usage(1, 2))


def test_the_first_event_carries_our_id_and_the_turn_is_recorded_before_the_last_one_is_seen(desk: Desk) -> None:
    events: list[Event] = []
    with desk.talk.begin(desk.request("one")) as stream:
        assert stream.session_id
        for batch in stream:
            if any(isinstance(event, Finished) for event in batch):
                assert desk.turns(stream.session_id)[0].status == "finished"
            events += batch
        assert events[0] == Started(stream.session_id, "notes-1")
    assert sum(isinstance(event, Started) for event in events) == 1


class Broken(PlainDecoder):
    def feed(self, chunk: bytes) -> Batch:
        raise ZeroDivisionError


def test_an_error_inside_the_server_ends_the_turn_as_failed(desk: Desk) -> None:
    desk.runner.backends = {"notes": replace(NOTES, decoder=Broken)}
    with desk.talk.begin(desk.request("one")) as stream, pytest.raises(ZeroDivisionError):
        collect(stream)
    (turn,) = desk.turns(stream.session_id)
    assert (turn.status, turn.failure, turn.error) == ("failed", "backend", BUG.message)


def test_turns_continue_the_cli_s_own_session(desk: Desk) -> None:
    session, _ = desk.begin("one")
    assert desk.resume(session, "two").output == "known: one | two"
    assert desk.resume(session, "three").output == "known: one | two | three"
    kept = desk.store.get(session.id, EVERYONE)
    assert (kept.turn_count, kept.usage, kept.cli_session_id) == (3, Usage(6, 6), session.cli_session_id)
    assert len(desk.files()) == 1


def test_a_surface_that_keeps_nothing_may_name_a_session(desk: Desk) -> None:
    session, _ = desk.begin("one")
    with desk.talk.stream(desk.request("two", ephemeral=True, resume=session.id), session.id[:12], EVERYONE) as stream:
        assert collect(stream).output == "known: one | two"
    with desk.talk.stream(desk.request("alone", ephemeral=True), None, EVERYONE) as stream:
        assert collect(stream).output == "known: alone"
    assert (desk.store.count(), desk.store.get(session.id, EVERYONE).turn_count) == (1, 2)
    with pytest.raises(NotFound):
        desk.talk.stream(desk.request("two"), "ffffffff", EVERYONE)


def test_an_ephemeral_run_touches_no_store(desk: Desk) -> None:
    with desk.talk.begin(desk.request("one", ephemeral=True)) as stream:
        result = collect(stream)
    assert (result.output, result.session_id) == ("known: one", None)
    assert (desk.files(), (desk.home.parent / "home").exists()) == ([], False)


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("\n  Say hello \nand more", "Say hello"),
        ("x" * 60, "x" * 60),
        ("x" * 61, f"{'x' * 59}…"),
        (f"one {'word ' * 100}", "one word word word word word word word word word word word…"),
    ],
)
def test_a_session_without_a_title_has_the_beginning_of_its_first_prompt(desk: Desk, prompt: str, title: str) -> None:
    session, _ = desk.begin(prompt)
    desk.resume(session, "two")
    assert desk.store.get(session.id, EVERYONE).title == title


def test_a_session_that_was_created_empty_begins_with_its_first_turn(desk: Desk) -> None:
    made = desk.talk.create(desk.request("", options={"verbose": True}), About(title="t", tags=("a",), metadata={"k": "v"}))
    assert (made.title, made.tags, made.metadata, made.turn_count) == ("t", ("default", "a"), {"k": "v"}, 0)
    assert desk.resume(made, "one").output == "known: one"
    assert desk.resume(made, "two").output == "known: one | two"


def test_the_metadata_of_a_session_is_bounded_over_all_of_its_turns(desk: Desk) -> None:
    made = desk.talk.create(desk.request(""), About(metadata={f"a{number}": "v" for number in range(40)}))
    more = About(metadata={f"b{number}": "v" for number in range(25)})
    for use in (lambda: desk.talk.resume(made, desk.request("one"), more), lambda: desk.talk.fork(made, "local", more)):
        with pytest.raises(InvalidRequest, match="65 keys, including those of the session; at most 64"):
            use()
    assert desk.store.get(made.id, EVERYONE).turn_count == 0
    assert len(desk.talk.fork(made, "local", About(metadata={"a1": "w"})).metadata) == 40


def test_a_second_turn_at_the_same_time_is_a_conflict_and_starts_nothing(desk: Desk) -> None:
    session, _ = desk.begin("one")
    with desk.talk.resume(session, desk.request("hang")) as stream:
        next(batch for batch in stream if batch)
        with pytest.raises(Conflict):
            desk.resume(session, "two")
        with pytest.raises(Conflict):
            desk.talk.fork(desk.store.get(session.id, EVERYONE), "local")
        with pytest.raises(Conflict):
            desk.talk.delete(session)
    assert desk.resume(session, "three").output == "known: one | hang | three"


def test_a_turn_that_is_closed_early_is_recorded_as_cancelled_with_what_it_said(desk: Desk) -> None:
    with desk.talk.begin(desk.request("hang")) as stream:
        seen = 0
        while seen < 2:
            seen += len(next(stream))
    session = desk.store.get(stream.session_id or "", EVERYONE)
    (turn,) = desk.store.turns(session)
    assert (turn.status, turn.failure, turn.output) == ("cancelled", "cancelled", "known: ")
    assert session.status == "idle"


def test_a_turn_that_is_never_begun_is_recorded_too(desk: Desk) -> None:
    stream = desk.talk.begin(desk.request("hang"))
    stream.close()
    stream.close()
    assert desk.turns(stream.session_id)[0].status == "cancelled"


def test_a_cancelled_turn_says_why(desk: Desk) -> None:
    cancellation = Cancellation()
    with desk.talk.begin(desk.request("hang"), cancellation=cancellation) as stream:
        gevent.spawn_later(0.1, cancellation.cancel, CLIENT_GONE)
        result = collect(stream)
    assert result.failure == CLIENT_GONE
    assert desk.turns(result.session_id)[0].error == CLIENT_GONE.message


def test_a_failed_turn_is_recorded_and_the_session_goes_on(desk: Desk) -> None:
    session, result = desk.begin("fail")
    assert isinstance(result.failure, Failed)
    assert (session.status, session.error) == ("failed", "told to fail")
    (turn,) = desk.store.turns(session)
    assert (turn.status, turn.failure, turn.error, turn.output) == ("failed", "backend", "told to fail", "known: ")
    assert desk.resume(session, "two").output == "known: fail | two"


@pytest.mark.parametrize("backend", ["missing", "nobody"])
def test_what_is_refused_leaves_no_trace(desk: Desk, backend: str) -> None:
    with pytest.raises((BackendUnavailable, InvalidRequest)):
        desk.begin("one", backend)
    assert desk.store.count() == 0


def test_what_a_resume_says_of_its_session_is_stored_with_the_turn_s_end(desk: Desk) -> None:
    session, _ = desk.begin("one")
    with desk.talk.resume(session, desk.request("two"), About(title="new title", tags=("new",), metadata={"k": "v"})) as stream:
        next(stream)
        running = desk.store.get(session.id, EVERYONE)
        assert (running.status, running.title, running.updated_at) == ("running", "one", session.updated_at)
        collect(stream)
    ended = desk.store.get(session.id, EVERYONE)
    assert (ended.title, ended.tags, ended.metadata) == ("new title", ("default", "new"), {"k": "v"})
    assert ended.updated_at > session.updated_at
    for wanted in (Filter(q="new title"), Filter(tag="new")):
        assert [one.id for one in desk.store.list(wanted, EVERYONE).sessions] == [session.id]


def test_a_resume_of_a_session_that_the_cli_has_lost_leaves_no_trace(desk: Desk) -> None:
    session, _ = desk.begin("one")
    for path in desk.chats.iterdir():
        path.unlink()
    with pytest.raises(NotFound):
        desk.talk.resume(session, desk.request("two"), About(title="t", tags=("new",)))
    assert desk.store.get(session.id, EVERYONE) == session


def test_a_resume_that_finds_no_place_leaves_no_trace(tmp_path: Path) -> None:
    spawner = Spawner()
    desk = Desk(tmp_path, spawner, places=1)
    session, _ = desk.begin("one")
    about = About(title="found by nobody", tags=("new",), metadata={"k": "v"})
    with desk.talk.begin(desk.request("hang")) as running:
        with pytest.raises(QueueFull):
            desk.talk.resume(session, desk.request("two"), about)
        with pytest.raises(Conflict):
            desk.talk.resume(desk.store.get(running.session_id or "", EVERYONE), desk.request("two"), about)
        assert desk.store.get(session.id, EVERYONE) == session
        assert not desk.store.list(Filter(q="nobody"), EVERYONE).sessions + desk.store.list(Filter(tag="new"), EVERYONE).sessions
    assert len(desk.store.turns(session)) == 1
    assert desk.resume(session, "two").output == "known: one | two"
    desk.store.close()
    spawner.close()


@pytest.mark.parametrize(
    ("more", "field"), [({"backend": "forgetful"}, "backend"), ({"workdir": "/"}, "workdir"), ({"ephemeral": True}, "ephemeral")]
)
def test_a_turn_stays_with_its_session_s_backend_and_folder(desk: Desk, more: dict[str, object], field: str) -> None:
    session, _ = desk.begin("one")
    with pytest.raises(InvalidRequest) as caught:
        desk.talk.resume(session, desk.request("two", **{"backend": "notes"} | more))  # type: ignore[arg-type]
    assert caught.value.field == field
    assert desk.store.get(session.id, EVERYONE).status == "idle"


def test_a_session_whose_cli_files_are_gone_says_so_and_can_be_rebuilt(desk: Desk) -> None:
    session, _ = desk.begin("first question")
    (desk.chats / f"{session.cli_session_id}.txt").unlink()
    with pytest.raises(NotFound, match="rebuild"):
        desk.resume(session, "two")
    assert len(desk.store.turns(session)) == 1
    output = desk.resume(session, "second question", rebuild=True).output
    assert output.index("first question") < output.index("known: first question") < output.index("second question")
    assert desk.resume(session, "third").output.endswith("| third")
    assert [turn.prompt for turn in desk.store.turns(session)] == ["first question", "second question", "third"]


def test_a_session_is_resumed_even_if_it_may_be_rebuilt(desk: Desk) -> None:
    session, _ = desk.begin("one")
    assert desk.resume(session, "two", rebuild=True).output == "known: one | two"


def test_a_session_of_a_cli_that_cannot_resume_is_rebuilt_when_that_is_asked(desk: Desk) -> None:
    session, _ = desk.begin("one", "forgetful")
    with pytest.raises(NotFound, match="cannot continue a session; send `rebuild: true`"):
        desk.resume(session, "two")
    assert "one" in desk.resume(session, "two", rebuild=True).output


def test_where_the_cli_alone_knows_that_its_session_is_gone_its_error_says_what_to_do(desk: Desk) -> None:
    session, _ = desk.begin("one", "secretive")
    assert desk.resume(session, "two").output == "known: one | two"
    (desk.chats / f"{session.cli_session_id}.txt").unlink()
    failure = desk.resume(session, "three").failure
    assert failure
    assert failure.kind == "unknown_session"
    assert "rebuild: true" in failure.message


def test_a_fork_goes_its_own_way_from_where_its_parent_was(desk: Desk) -> None:
    parent, _ = desk.begin("one")
    fork = desk.talk.fork(parent, "local", About(title="try", tags=("b",)))
    assert (fork.parent_id, fork.title, fork.tags, fork.turn_count, fork.usage) == (parent.id, "try", ("default", "b"), 1, Usage())
    assert desk.resume(parent, "parent").output == "known: one | parent"
    assert desk.resume(fork, "fork").output == "known: one | fork"
    assert desk.resume(parent, "again").output == "known: one | parent | again"
    assert len(desk.files()) == 2


@pytest.mark.parametrize("backend", ["secretive", "forgetful"])
def test_a_fork_of_a_session_that_cannot_be_copied_is_rebuilt_and_says_so(desk: Desk, backend: str) -> None:
    parent, _ = desk.begin("one", backend)
    fork = desk.talk.fork(parent, "local")
    assert fork.needs_rebuild
    assert "known: one" in desk.resume(fork, "two").output
    if backend == "secretive":
        assert not desk.store.get(fork.id, EVERYONE).needs_rebuild
        assert desk.resume(fork, "three").output.endswith("| three")


def test_deleting_a_session_deletes_the_cli_s_files_and_nothing_else(desk: Desk) -> None:
    session, _ = desk.begin("one")
    other, _ = desk.begin("other")
    (desk.chats / str(session.cli_session_id)).mkdir()
    desk.talk.delete(session)
    assert desk.files() == [f"{other.cli_session_id}.txt"]
    assert [found.id for found in desk.store.list(Filter(), EVERYONE).sessions] == [other.id]


def test_expired_sessions_go_with_their_files(desk: Desk) -> None:
    old, _ = desk.begin("old")
    new, _ = desk.begin("new")
    desk.store.database.write(
        lambda connection: connection.execute(
            text("UPDATE sessions SET updated_at = :then WHERE id = :id"), {"then": time_ns() // 1000 - 31 * 86_400_000_000, "id": old.id}
        )
    )
    upkeep = Upkeep(desk.talk, retention_days=30)
    upkeep.start()
    with gevent.Timeout(10):
        while desk.store.count() > 1 or len(desk.files()) > 1:
            gevent.sleep(0.01)
    upkeep.stop()
    assert desk.files() == [f"{new.cli_session_id}.txt"]


def test_the_lease_is_renewed_while_a_deletion_takes_long(desk: Desk) -> None:
    deleting, go_on = Signal(), Signal()

    def delete() -> None:
        deleting.set()
        go_on.wait()

    def seen_at() -> float:
        with desk.store.database.reading() as connection:
            return float(connection.execute(text("SELECT max(seen_at) FROM owners")).scalar() or 0)

    upkeep = Upkeep(desk.talk, retention_days=30, beat_s=0.01, tidy=(delete,))
    upkeep.start()
    assert deleting.wait(10)
    then = seen_at()
    with gevent.Timeout(5):
        while seen_at() <= then:
            gevent.sleep(0.01)
    assert not go_on.is_set()
    upkeep.stop()


def test_an_answer_goes_out_though_the_store_cannot_take_it_and_is_recorded_later(desk: Desk) -> None:
    with desk.talk.begin(desk.request("one")) as stream:
        path = Path(desk.store.database.url.database or "")
        desk.store.close()
        path.parent.rename(path.parent.with_name("away"))
        path.parent.write_text("in the way")
        result = collect(stream)
    assert result.output == "known: one"
    with pytest.raises(StoreUnavailable):
        desk.talk.save_again()
    path.parent.unlink()
    path.parent.with_name("away").rename(path.parent)
    desk.talk.save_again()
    assert desk.turns(result.session_id)[0].output == "known: one"


def test_many_turns_of_many_sessions_at_once_lose_nothing(desk: Desk) -> None:
    jobs = [gevent.spawn(desk.begin, f"prompt {n}") for n in range(4)]
    gevent.joinall(jobs, raise_error=True)
    jobs = [gevent.spawn(desk.resume, job.value[0], "more") for job in jobs]
    gevent.joinall(jobs, raise_error=True)
    assert sorted(job.value.output for job in jobs) == [f"known: prompt {n} | more" for n in range(4)]
    assert eventually(lambda: not desk.store.list(Filter(status="running"), EVERYONE).sessions)
