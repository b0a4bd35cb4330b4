"""What a run store promises, on every database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import time_ns
from typing import Any

import gevent
import pytest
from sqlalchemy import select, text
from sqlalchemy.engine import URL

from services.access.scope import EVERYONE, Scope
from services.errors import Conflict, InvalidRequest, KeyReused, NotFound, QueueFull, RateLimited
from services.runs import finding
from services.runs.expiry import BATCH_BYTES, expire_events, expire_runs
from services.runs.record import Chunk, IdempotencyKey, Run, RunError, RunFilter, StoredAnswer, Webhook
from services.runs.store import BATCH
from services.runs.webhooks.outbox import Outbox
from services.store.leases import BEAT_S, LEASE_S
from services.store.records import NewTurn, Session, TurnEnd
from services.store.schema import owners, run_events, runs
from services.store.sessions import new_id
from tests.parts.run_stores import RunDesk, end, frames, new_run, restarted_of, terminal_of

ROOT = Path(__file__).parents[2]
UNLIMITED: dict[str, Any] = {"max_waiting": 10_000, "max_waiting_per_owner": 10_000}
KEY = IdempotencyKey(key="key", body_hash="a")
HOOK = Webhook(url="https://example.com/hook", events=("run.completed", "run.cancelled"), secret="whsec_x")


def lost(desk: RunDesk) -> list[Run]:
    return list(desk.runs.bury(terminal_of, restarted_of))


def ids(page: Any) -> list[str]:
    return [run.id for run in page.runs]


def empty_session(desk: RunDesk) -> Session:
    return desk.sessions.add(Session(id=new_id(), owner="local", backend="claude", workdir="/work"))


def test_a_run_is_kept_as_it_was_given(desk: RunDesk) -> None:
    odd = "é漢字🙂 \u2028 '\" \\ % _"
    new = new_run(
        title=odd, tags=("a", odd), metadata={odd: odd}, session_id=new_id(), backend="claude", model="m", priority=3, attempts=2,
        timeout_s=7.5, idempotency=KEY, webhooks=(HOOK,), request=b"\x00\xff",
    )  # fmt: skip
    run, is_new = desk.runs.add(new, **UNLIMITED)
    assert is_new
    assert run == desk.runs.get(new.id, Scope("anna"))
    for name in ("id", "kind", "owner", "is_background", "request_id", "title", "tags", "metadata", "session_id", "backend", "model",
                 "priority", "attempts", "timeout_s", "idempotency", "webhooks"):  # fmt: skip
        assert getattr(run, name) == getattr(new, name), name
    assert (run.status, run.attempt, run.position, run.started_at, run.ended_at) == ("queued", 1, 1, None, None)
    assert run.created_at > 0
    assert desk.claim("claude").request == new.request
    assert "whsec_x" not in repr(run)


def test_no_text_breaks_the_database(desk: RunDesk) -> None:
    run = desk.add(title="a\0b", tags=("\0",), metadata={"\0": "\ud83d"}, model="\ud83d")
    assert (run.title, run.tags, run.model) == ("a\ufffdb", ("\ufffd",), "?")
    with pytest.raises(NotFound):
        desk.runs.get("run_\0", EVERYONE)


def test_another_owners_run_is_an_unknown_one(desk: RunDesk) -> None:
    run = desk.add(owner="anna")
    unknown = "run_" + "0" * 24
    for act in (desk.runs.get, desk.runs.delete, lambda id, scope: desk.runs.cancel(id, scope, terminal_of)):
        with pytest.raises(NotFound) as other:
            act(run.id, Scope("bert"))
        with pytest.raises(NotFound) as none:
            act(unknown, Scope("bert"))
        assert other.value.message.replace(run.id, unknown) == none.value.message
    assert desk.runs.get(run.id, EVERYONE).status == "queued"


def test_the_oldest_run_of_the_first_priority_is_claimed_first(desk: RunDesk) -> None:
    made = [desk.add(owner=f"owner {number}", priority=priority) for number, priority in enumerate((5, 5, 0, 9))]
    assert [run.position for run in made] == [1, 2, 1, 4]
    assert [desk.runs.get(run.id, EVERYONE).position for run in made] == [2, 3, 1, 4]
    claimed = [desk.claim() for _ in made]
    assert [run.id for run in claimed] == [made[index].id for index in (2, 0, 1, 3)]
    assert all(run.status == "running" and run.started_at and run.position is None and run.attempt == 1 for run in claimed)
    assert desk.runs.claim([]) is None


def test_a_worker_claims_what_its_backends_can_do(desk: RunDesk) -> None:
    codex, any_backend = desk.add(backend="codex"), desk.add()
    assert desk.claim("claude").id == any_backend.id
    assert desk.runs.claim(["claude"]) is None
    assert desk.claim("claude", "codex").id == codex.id


def test_a_late_owner_is_served_next_though_another_has_a_thousand_waiting(desk: RunDesk) -> None:
    for _ in range(1_000):
        desk.add(owner="anna")
    for _ in range(3):
        assert desk.claim().owner == "anna"
    late = desk.add(owner="bert")
    assert late.position == 1
    assert desk.claim().id == late.id


def test_owners_take_turns_and_who_comes_late_does_not_catch_up(desk: RunDesk) -> None:
    for _ in range(20):
        desk.add(owner="anna")
    for _ in range(10):
        desk.claim()
    for _ in range(10):
        desk.add(owner="bert")
    served = "".join(desk.claim().owner[0] for _ in range(20))
    assert served[:11].count("a") >= 5
    assert served.count("a") == served.count("b") == 10


def test_a_caller_that_submits_after_every_start_gets_no_more_than_its_turns(desk: RunDesk) -> None:
    for _ in range(20):
        desk.add(owner="anna")
    desk.add(owner="bert")
    served = ""
    for _ in range(20):
        run = desk.claim()
        served += run.owner[0]
        if run.owner == "bert":
            desk.add(owner="bert")
    assert 9 <= served.count("b") <= 11


def test_twice_the_weight_is_twice_the_share(desk: RunDesk) -> None:
    for _ in range(30):
        desk.add(owner="anna", weight=2.0)
        desk.add(owner="bert", weight=1.0)
    served = [desk.claim().owner for _ in range(30)]
    assert 19 <= served.count("anna") <= 21


def test_runs_that_a_worker_passed_over_do_not_hold_up_a_late_owner(desk: RunDesk) -> None:
    for _ in range(10):
        desk.add(owner="anna", backend="codex")
    for _ in range(10):
        desk.add(owner="carl", backend="claude")
    for _ in range(8):
        desk.claim("claude")
    assert desk.add(owner="bert", backend="codex").position == 2


def test_the_place_of_a_run_is_the_same_at_its_submission_alone_and_in_a_list(desk: RunDesk) -> None:
    kinds = [("anna", 5, 1.0), ("bert", 5, 2.0), ("anna", 9, 1.0), ("carl", 0, 0.5), ("anna", 5, 1.0)]
    for at in range(30):
        owner, priority, weight = kinds[at * 7 % len(kinds)]
        run = desk.add(owner=owner, priority=priority, weight=weight, backend="claude")
        assert run.position == desk.runs.get(run.id, EVERYONE).position
        if at % 6 == 5:
            desk.claim("claude")
    for wanted in (RunFilter(), RunFilter(owner="anna"), RunFilter(status="running")):
        page = desk.runs.list(wanted, EVERYONE, limit=200).runs
        assert [run.position for run in page] == [desk.runs.get(run.id, EVERYONE).position for run in page]
    served = {desk.runs.get(run.id, EVERYONE).position: run.id for run in desk.runs.list(RunFilter(status="queued"), EVERYONE).runs}
    assert [desk.claim("claude").id for _ in served] == [served[place] for place in range(1, len(served) + 1)]


def test_the_queue_and_each_owners_share_of_it_are_limited(desk: RunDesk) -> None:
    limits = {"max_waiting": 3, "max_waiting_per_owner": 2}
    desk.add(owner="anna", **limits)
    desk.add(owner="anna", **limits)
    with pytest.raises(RateLimited) as own:
        desk.add(owner="anna", **limits)
    desk.add(owner="bert", **limits)
    with pytest.raises(QueueFull) as whole:
        desk.add(owner="carl", **limits)
    assert own.value.retry_after_s
    assert whole.value.retry_after_s
    desk.claim()
    desk.add(owner="carl", **limits)


def test_two_that_claim_at_once_never_get_the_same_run(open_run_desk: Callable[..., RunDesk]) -> None:
    desks = [open_run_desk() for _ in range(4)]
    made = {desks[0].add().id for _ in range(80)}

    def work(desk: RunDesk) -> list[str]:
        got = []
        while run := desk.runs.claim([]):
            got.append(run.id)
        return got

    with ThreadPoolExecutor(4) as pool:
        got = [id for some in pool.map(work, desks) for id in some]
    assert len(got) == 80
    assert set(got) == made


def test_an_end_is_kept_with_all_that_belongs_to_it(desk: RunDesk) -> None:
    run = desk.start(session_id="old", model="asked")
    answer = StoredAnswer(status=200, headers=(("Content-Type", "text/plain"), ("X-A", "é")), body=b"\x00\xff")
    done = desk.finish(
        run.id, 4, status="failed", result=b'{"x":1}', error=RunError(code="timeout", message="too slow"), answer=answer,
        session_id="new", cli_session_id="left", backend="claude", last_tool="Bash",
    )  # fmt: skip
    assert done
    kept = desk.runs.get(run.id, Scope("anna"))
    assert (kept.status, kept.result, kept.error) == ("failed", b'{"x":1}', RunError(code="timeout", message="too slow"))
    assert (kept.answer, kept.terminal) == (answer, frames(4, text="done"))
    assert desk.runs.terminal_of(run.id) == kept.terminal
    assert (kept.session_id, kept.cli_session_id) == ("new", "left")
    assert (kept.backend, kept.model, kept.last_tool) == ("claude", "asked", "Bash")
    assert kept.created_at <= (kept.started_at or 0) <= (kept.ended_at or 0)


def test_a_run_ends_once(desk: RunDesk) -> None:
    run = desk.start()
    assert desk.finish(run.id, 1, result=b"1")
    assert not desk.finish(run.id, 2, result=b"2")
    assert desk.runs.get(run.id, EVERYONE).result == b"1"
    assert not desk.finish(desk.add().id, 1)


def test_only_its_worker_notes_and_ends_a_run(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, theirs = open_run_desk(), open_run_desk()
    run = ours.start()
    theirs.runs.note(run.id, model="theirs")
    assert not theirs.finish(run.id, 1)
    ours.runs.note(run.id, session_id="s", model="ours", last_tool="Bash", status="waiting")
    ours.runs.note(run.id, last_tool="Read")
    kept = ours.runs.get(run.id, EVERYONE)
    assert (kept.session_id, kept.model, kept.last_tool, kept.status) == ("s", "ours", "Read", "waiting")
    assert ours.finish(run.id, 1)
    ours.runs.note(run.id, model="late", status="running")
    assert (ours.runs.get(run.id, EVERYONE).model, ours.runs.get(run.id, EVERYONE).status) == ("ours", "completed")


def test_no_text_that_is_noted_breaks_the_database(desk: RunDesk) -> None:
    run = desk.start()
    desk.runs.note(run.id, session_id="s", model="m\0\ud800", last_tool="tool\0", status="waiting")
    noted = desk.runs.get(run.id, EVERYONE)
    assert (noted.session_id, noted.model, noted.last_tool, noted.status) == ("s", "m\ufffd?", "tool\ufffd", "waiting")


def test_the_webhook_of_an_end_is_stored_with_it_if_its_type_is_wanted(desk: RunDesk) -> None:
    completed, failed, unwanted = (desk.start(webhooks=(HOOK,)) for _ in range(3))
    desk.finish(completed.id, 1)
    desk.finish(unwanted.id, 1, status="failed")
    every = desk.start(kind="response", webhooks=(Webhook(url="https://x", secret="s"),))
    desk.finish(every.id, 0)
    incomplete = desk.start(kind="response", webhooks=(Webhook(url="https://x", secret="s", events=("response.incomplete",)),))
    desk.finish(incomplete.id, 0, webhook_event="incomplete")
    assert not desk.finish(completed.id, 2)
    desk.finish(failed.id, 1, status="cancelled")
    assert sorted(desk.deliveries()) == sorted(
        [
            (completed.id, "run.completed"),
            (every.id, "response.completed"),
            (incomplete.id, "response.incomplete"),
            (failed.id, "run.cancelled"),
        ]
    )


def test_cancelling_a_queued_run_ends_it_with_a_terminal_event(desk: RunDesk) -> None:
    run = desk.add(webhooks=(HOOK,))
    cancelled = desk.runs.cancel(run.id, Scope("anna"), terminal_of)
    assert cancelled == desk.runs.get(run.id, EVERYONE)
    assert (cancelled.status, cancelled.terminal, cancelled.position) == ("cancelled", frames(1, text="cancelled"), None)
    assert cancelled.error
    assert cancelled.error.code == "cancelled"
    assert cancelled.ended_at
    assert desk.deliveries() == [(run.id, "run.cancelled")]
    assert desk.runs.claim([]) is None
    assert desk.runs.cancel(run.id, EVERYONE, terminal_of) == cancelled


def test_the_terminal_event_of_a_response_has_the_number_0_if_it_is_the_first(desk: RunDesk) -> None:
    cancelled = desk.runs.cancel(desk.add(kind="response").id, EVERYONE, terminal_of)
    assert cancelled.terminal == frames(0, text="cancelled")


def test_the_queued_runs_of_a_revoked_key_end_and_no_others(desk: RunDesk) -> None:
    executed = desk.start(webhooks=(HOOK,))
    waiting = [desk.add(webhooks=(HOOK,)).id for _ in range(BATCH + 1)]
    other = desk.add(owner="bob")
    assert desk.runs.end_queued_of("anna", terminal_of) == waiting
    for id in waiting:
        run = desk.runs.get(id, Scope("anna"))
        assert (run.status, run.error and run.error.code, run.terminal) == ("cancelled", "key_revoked", frames(1, text="key_revoked"))
    assert sorted(desk.deliveries()) == sorted((id, "run.cancelled") for id in waiting)
    assert (desk.runs.get(executed.id, EVERYONE).status, desk.runs.get(executed.id, EVERYONE).is_cancel_requested) == ("running", False)
    assert desk.runs.get(other.id, EVERYONE).status == "queued"
    assert desk.runs.end_queued_of("anna", terminal_of) == []


def test_cancelling_a_run_that_is_executed_is_told_to_its_worker(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, theirs = open_run_desk(), open_run_desk()
    run, other = ours.start(), ours.start()
    assert theirs.runs.cancel(run.id, Scope("anna"), terminal_of).is_cancel_requested
    assert theirs.runs.get(run.id, EVERYONE).status == "running"
    assert (theirs.runs.to_cancel(), ours.runs.to_cancel()) == ((), (run.id,))
    ours.finish(run.id, 1, status="cancelled")
    assert ours.runs.to_cancel() == ()
    assert not ours.runs.get(other.id, EVERYONE).is_cancel_requested


def test_a_worker_hears_of_cancellations_without_a_beat(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, other = open_run_desk(), open_run_desk()
    run, also = ours.start(), ours.start()
    theirs = other.start()
    for wanted in (run, theirs):
        other.runs.cancel(wanted.id, EVERYONE, terminal_of)
    assert (ours.runs.to_cancel(), other.runs.to_cancel()) == ((run.id,), (theirs.id,))
    ours.finish(run.id, 1)
    assert ours.runs.to_cancel() == ()
    assert ours.runs.get(also.id, EVERYONE).status == "running"


@pytest.mark.parametrize("method", ["add", "begin"])
def test_a_key_gives_the_same_run_to_an_equal_request_and_refuses_another(desk: RunDesk, method: str) -> None:
    def submit(**more: Any) -> tuple[Run, bool]:
        new = new_run(**{"idempotency": KEY, "is_background": method == "add"} | more)
        return desk.runs.add(new, **UNLIMITED) if method == "add" else desk.runs.begin(new)

    first, is_new = submit()
    assert is_new
    assert submit() == (first, False)
    with pytest.raises(KeyReused) as refused:
        submit(idempotency=IdempotencyKey(key="key", body_hash="b"))
    assert refused.value.details == {"field": "Idempotency-Key", "issue": "key reused"}
    other, is_new = submit(owner="bert")
    assert is_new
    assert other.id != first.id
    assert desk.runs.find_key("anna", KEY) == first
    assert desk.runs.find_key("carl", KEY) is None


def test_of_fifty_requests_with_one_key_at_once_one_starts(open_run_desk: Callable[..., RunDesk]) -> None:
    desks = [open_run_desk() for _ in range(5)]
    with ThreadPoolExecutor(5) as pool:
        got = list(pool.map(lambda number: desks[number % 5].runs.begin(new_run(idempotency=KEY, is_background=False)), range(50)))
    assert [is_new for _, is_new in got].count(True) == 1
    assert len({run.id for run, _ in got}) == 1


def test_of_fifty_greenlets_with_one_key_one_starts(desk: RunDesk) -> None:
    jobs = [gevent.spawn(desk.runs.begin, new_run(idempotency=KEY, is_background=False)) for _ in range(50)]
    gevent.joinall(jobs, raise_error=True, timeout=20)
    assert [job.value[1] for job in jobs].count(True) == 1


def test_the_answer_of_a_foreground_run_is_there_for_its_key(desk: RunDesk) -> None:
    new = new_run(idempotency=KEY, is_background=False)
    run, _ = desk.runs.begin(new)
    assert (run.status, run.is_background) == ("running", False)
    answer = StoredAnswer(status=200, headers=(), body=b"answer")
    assert desk.finish(run.id, 1, answer=answer)
    again, is_new = desk.runs.begin(new_run(idempotency=KEY, is_background=False))
    assert (again.id, again.answer, is_new) == (run.id, answer, False)


def test_a_run_whose_start_was_refused_leaves_its_key_free(desk: RunDesk) -> None:
    run, _ = desk.runs.begin(new_run(idempotency=KEY, is_background=False))
    desk.runs.discard(run.id)
    with pytest.raises(NotFound):
        desk.runs.get(run.id, EVERYONE)
    assert desk.runs.begin(new_run(idempotency=KEY, is_background=False))[1]


def test_an_ended_run_is_not_discarded(desk: RunDesk) -> None:
    run, _ = desk.runs.begin(new_run(idempotency=KEY, is_background=False))
    desk.finish(run.id, 1)
    desk.runs.discard(run.id)
    assert desk.runs.get(run.id, EVERYONE).status == "completed"


def is_unfinished(desk: RunDesk, session_id: str, but: str | None = None) -> bool:
    with desk.sessions.database.reading() as connection:
        return finding.is_unfinished(connection, session_id, but)


def test_a_session_has_one_unfinished_run(desk: RunDesk) -> None:
    session = empty_session(desk)
    first = desk.add(session_id=session.id)
    assert is_unfinished(desk, session.id)
    assert not is_unfinished(desk, session.id, but=first.id)
    for _ in ("queued", "running"):
        with pytest.raises(Conflict) as refused:
            desk.add(session_id=session.id)
        assert refused.value.details == {"field": "session_id", "issue": "session is running"}
        with pytest.raises(Conflict):
            desk.runs.begin(new_run(session_id=session.id, is_background=False))
        desk.runs.claim([])
    desk.finish(first.id, 1)
    assert not is_unfinished(desk, session.id)
    desk.add(session_id=session.id)


def test_of_many_submissions_for_one_session_at_once_one_is_accepted(open_run_desk: Callable[..., RunDesk]) -> None:
    desks = [open_run_desk() for _ in range(4)]
    session = empty_session(desks[0])

    def submit(number: int) -> bool:
        try:
            desks[number % 4].add(session_id=session.id)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(submit, range(16))).count(True) == 1


def test_a_session_takes_no_turn_that_would_overtake_its_queued_run(desk: RunDesk) -> None:
    session = empty_session(desk)
    turn = desk.sessions.start_turn(session, NewTurn(prompt="p"))
    with pytest.raises(Conflict):
        desk.add(session_id=session.id)
    desk.sessions.end_turn(turn, TurnEnd(status="finished", output="", duration_ms=1))
    run = desk.add(session_id=session.id)
    with pytest.raises(Conflict) as refused:
        desk.sessions.start_turn(session, NewTurn(prompt="p"))
    assert refused.value.details["issue"] == "session is running"
    desk.sessions.start_turn(session, NewTurn(prompt="p"), run_id=run.id)


def test_a_session_that_a_dead_server_left_running_takes_a_run(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, theirs = open_run_desk(), open_run_desk()
    session = empty_session(ours)
    theirs.sessions.start_turn(session, NewTurn(prompt="p"))
    with pytest.raises(Conflict):
        ours.add(session_id=session.id)
    theirs.seem_dead()
    ours.add(session_id=session.id)


def test_runs_are_listed_newest_first_in_pages(desk: RunDesk) -> None:
    made = [desk.add(owner="anna", kind="prompt" if number % 2 else "chain").id for number in range(7)]
    other = desk.add(owner="bert", session_id="s").id
    assert ids(desk.runs.list(RunFilter(), Scope("anna"))) == made[::-1]
    assert ids(desk.runs.list(RunFilter(), EVERYONE)) == [other, *made[::-1]]
    assert ids(desk.runs.list(RunFilter(session_id="s"), EVERYONE)) == [other]
    assert ids(desk.runs.list(RunFilter(session_id="s"), Scope("anna"))) == []
    assert ids(desk.runs.list(RunFilter(owner="bert"), EVERYONE)) == [other]
    assert ids(desk.runs.list(RunFilter(owner="bert"), Scope("anna"))) == []
    assert ids(desk.runs.list(RunFilter(kind="chain"), Scope("anna"))) == made[::-2]
    first = desk.runs.list(RunFilter(), Scope("anna"), limit=4)
    second = desk.runs.list(RunFilter(), Scope("anna"), limit=4, cursor=first.next_cursor)
    assert ids(first) + ids(second) == made[::-1]
    assert second.next_cursor is None
    assert desk.claim().id == made[0]
    assert ids(desk.runs.list(RunFilter(status="running"), Scope("anna"))) == made[:1]
    page = desk.runs.list(RunFilter(), EVERYONE)
    assert {run.id: run.position for run in page.runs} == {run.id: desk.runs.get(run.id, EVERYONE).position for run in page.runs}
    with pytest.raises(InvalidRequest):
        desk.runs.list(RunFilter(), Scope("anna"), cursor="nonsense")


def test_a_list_leaves_out_what_is_too_long_for_it(desk: RunDesk) -> None:
    small, large, none = (desk.start(request=b"x" * 100_000) for _ in range(3))
    answer = StoredAnswer(status=200, headers=(), body=b"x")
    desk.finish(small.id, 1, result=b"x" * 16_384, answer=answer)
    desk.finish(large.id, 1, result=b"x" * 16_385)
    desk.finish(none.id, 1)
    listed = {run.id: run for run in desk.runs.list(RunFilter(), Scope("anna")).runs}
    assert (listed[small.id].result, listed[small.id].left_out) == (b"x" * 16_384, ())
    assert (listed[large.id].result, listed[large.id].left_out) == (None, ("result",))
    assert (listed[none.id].result, listed[none.id].left_out) == (None, ())
    assert {(run.request, run.answer, run.terminal) for run in listed.values()} == {(b"", None, None)}
    assert desk.runs.get(large.id, EVERYONE).result == b"x" * 16_385


def test_a_run_is_deleted_with_all_that_belongs_to_it_once_it_has_ended(desk: RunDesk) -> None:
    run = desk.add(idempotency=KEY, webhooks=(HOOK,))
    for _ in ("queued", "running"):
        with pytest.raises(Conflict):
            desk.runs.delete(run.id, Scope("anna"))
        desk.runs.claim([])
    desk.write(run.id, frames(1))
    desk.finish(run.id, 2)
    desk.runs.delete(run.id, Scope("anna"))
    with pytest.raises(NotFound):
        desk.runs.get(run.id, EVERYONE)
    assert (desk.log.read(run.id, 0), desk.deliveries(), desk.runs.find_key("anna", KEY)) == ([], [], None)


def test_a_run_that_waits_has_the_events_it_began_with(desk: RunDesk) -> None:
    run = desk.add(kind="response", begun=frames(0, 2))
    assert (desk.log.first(run.id), desk.log.read(run.id, 0)) == (frames(0, 2), [frames(1)])
    assert desk.log.last(desk.claim().id) == 1


def test_a_terminal_event_is_made_with_the_beginning_of_the_log(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, dead = open_run_desk(), open_run_desk()
    found: dict[str, Chunk | None] = {}

    def terminal_of(run: Run, number: int) -> Chunk:
        found[run.id] = run.begun
        return frames(number)

    run, silent = dead.start(kind="response", begun=frames(0, 2)), dead.start()
    dead.write(run.id, frames(2))
    dead.seem_dead()
    ours.runs.bury(terminal_of, terminal_of)
    queued = ours.add(begun=frames(1))
    ours.runs.cancel(queued.id, EVERYONE, terminal_of)
    assert found == {run.id: frames(0, 2), silent.id: None, queued.id: frames(1)}


def test_the_request_of_a_run_is_read_alone(desk: RunDesk) -> None:
    run = desk.add(request=b"asked")
    assert (desk.runs.request_of(run), desk.runs.get(run.id, EVERYONE).request) == (b"asked", b"")
    desk.runs.cancel(run.id, EVERYONE, terminal_of)
    desk.runs.delete(run.id, EVERYONE)
    with pytest.raises(NotFound):
        desk.runs.request_of(run)


def test_every_webhook_of_a_run_gets_the_events_it_wants(desk: RunDesk) -> None:
    hooks = tuple(
        Webhook(url=f"https://{name}", secret="s", events=events) for name, events in (("a", ()), ("b", ("run.failed",)), ("c", ()))
    )
    run = desk.start(webhooks=hooks)
    desk.finish(run.id, 1)
    outbox = Outbox(desk.sessions.database)
    claimed = [delivery for _ in range(3) if (delivery := outbox.claim())]
    assert sorted((delivery.host, delivery.webhook) for delivery in claimed) == [("a", 0), ("c", 2)]


def test_the_runs_of_a_dead_worker_fail_with_a_terminal_event(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, dead = open_run_desk(), open_run_desk()
    run, silent = dead.start(webhooks=(Webhook(url="https://x", secret="s"),)), dead.start(kind="response")
    keyed, _ = dead.runs.begin(new_run(idempotency=KEY, is_background=False, attempts=2))
    dead.write(run.id, frames(1, 3))
    mine, waiting = ours.start(), ours.add()
    assert lost(ours) == []
    dead.seem_dead()
    buried = {found.id: found for found in lost(ours)}
    assert set(buried) == {run.id, silent.id, keyed.id}
    for found in buried.values():
        kept = ours.runs.get(found.id, EVERYONE)
        assert kept == found
        assert (kept.status, kept.error and kept.error.code) == ("failed", "worker_lost")
    assert buried[run.id].terminal == frames(4, text="worker_lost")
    assert buried[silent.id].terminal == frames(0, text="worker_lost")
    assert ours.deliveries() == [(run.id, "run.failed")]
    assert (ours.runs.get(mine.id, EVERYONE).status, ours.runs.get(waiting.id, EVERYONE).status) == ("running", "queued")
    assert lost(ours) == []


def test_a_lost_run_whose_end_cannot_be_made_does_not_keep_others_from_theirs(
    open_run_desk: Callable[..., RunDesk], caplog: pytest.LogCaptureFixture
) -> None:
    dead, desk = open_run_desk(), open_run_desk()
    made = [dead.start() for _ in range(3)]
    odd = sorted(run.id for run in made)[1]
    dead.seem_dead()

    def make(run: Run, number: int) -> Chunk:
        if run.id == odd:
            raise ValueError("odd")
        return terminal_of(run, number)

    assert {run.id for run in desk.runs.bury(make, restarted_of)} == {run.id for run in made} - {odd}
    assert odd in caplog.text
    assert {desk.runs.status_of(run.id) for run in made if run.id != odd} == {"failed"}
    assert (desk.runs.status_of(odd), [run.id for run in lost(desk)]) == ("running", [odd])


def test_a_declared_dead_worker_can_neither_write_nor_end(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, frozen = open_run_desk(), open_run_desk()
    run = frozen.start()
    frozen.seem_dead()
    lost(ours)
    assert not frozen.finish(run.id, 1)
    assert ours.runs.get(run.id, EVERYONE).status == "failed"


def test_a_run_with_an_attempt_left_is_started_once_more_and_its_numbers_go_on(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, dead = open_run_desk(), open_run_desk()
    run = dead.start(attempts=2)
    dead.runs.note(run.id, last_tool="Bash")
    dead.write(run.id, frames(1, 2))
    dead.seem_dead()
    (again,) = lost(ours)
    assert (again.id, again.status, again.attempt, again.last_tool) == (run.id, "queued", 1, None)
    assert ours.log.last(run.id) == 3
    assert ours.log.read(run.id, 2) == [frames(3, text="restarted 2")]
    second = ours.claim()
    assert (second.id, second.attempt, second.status) == (run.id, 2, "running")
    assert (second.started_at or 0) >= (run.started_at or 0)
    ours.write(run.id, frames(4))
    ours.seem_dead()
    third = open_run_desk()
    assert [found.status for found in lost(third)] == ["failed"]
    assert third.runs.get(run.id, EVERYONE).terminal == frames(5, text="worker_lost")


def test_the_end_of_a_lost_attempt_is_refused_though_its_process_executes_the_next_one(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, other = open_run_desk(), open_run_desk()
    first = ours.start(attempts=2)
    ours.seem_dead()
    assert lost(other)
    second = ours.claim("claude")
    assert (second.id, second.attempt) == (first.id, 2)
    assert not ours.runs.end(first.id, end(2), attempt=first.attempt)
    assert ours.runs.status_of(first.id) == "running"
    assert ours.runs.end(first.id, end(2), attempt=second.attempt)


def test_a_lost_run_that_was_to_be_cancelled_is_not_started_again(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, dead = open_run_desk(), open_run_desk()
    run = dead.start(attempts=2)
    ours.runs.cancel(run.id, EVERYONE, terminal_of)
    dead.seem_dead()
    assert [found.status for found in lost(ours)] == ["failed"]


def test_cancelling_a_run_that_waits_for_its_second_attempt_continues_its_numbers(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, dead = open_run_desk(), open_run_desk()
    run = dead.start(attempts=2)
    dead.write(run.id, frames(1, 2))
    dead.seem_dead()
    lost(ours)
    assert ours.runs.cancel(run.id, EVERYONE, terminal_of).terminal == frames(4, text="cancelled")


def test_one_of_two_buries_a_lost_run(open_run_desk: Callable[..., RunDesk]) -> None:
    desks, dead = [open_run_desk() for _ in range(3)], open_run_desk()
    made = [dead.start(attempts=2).id for _ in range(10)]
    dead.seem_dead()
    with ThreadPoolExecutor(3) as pool:
        buried = [run.id for some in pool.map(lost, desks) for run in some]
    assert sorted(buried) == sorted(made)


CRASHING = """
import os, sys
from services.store.db import to_url
from tests.parts.run_stores import open_desk, frames
desk = open_desk(to_url(sys.argv[1], ""))
run = desk.start()
desk.write(run.id, frames(1, 2))
print(run.id, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_run_of_a_process_that_was_killed_is_ended_at_once_on_its_machine(url: URL, desk: RunDesk) -> None:
    command = [sys.executable, "-c", CRASHING, url.render_as_string(hide_password=False)]
    died = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=30)
    run_id = died.stdout.strip()
    assert desk.runs.get(run_id, EVERYONE).status == "running", died.stderr
    assert [run.id for run in lost(desk)] == [run_id]
    assert desk.runs.get(run_id, EVERYONE).terminal == frames(3, text="worker_lost")


def test_a_process_that_died_on_another_machine_is_noticed_within_15_s() -> None:
    assert LEASE_S + BEAT_S <= 15 - 1, "the time of the burial itself is left"
    assert 3 * BEAT_S <= LEASE_S, "two renewals may be late"


def test_the_lease_of_a_process_that_holds_a_run_is_kept_until_the_run_is_buried(open_run_desk: Callable[..., RunDesk]) -> None:
    ours, dead = open_run_desk(), open_run_desk()
    dead.start()
    dead.seem_dead()

    def leases() -> set[str]:
        with ours.sessions.database.reading() as connection:
            return set(connection.execute(select(owners.c.id)).scalars())

    ours.sessions.release_dead()
    assert dead.id in leases()
    lost(ours)
    ours.sessions.release_dead()
    assert dead.id not in leases()


def test_events_and_then_rows_expire(desk: RunDesk) -> None:
    hour = 3_600
    old, middle, new, running = (desk.start(webhooks=(HOOK,)) for _ in range(4))
    waiting = desk.add()
    for run in (old, middle, new, running):
        desk.write(run.id, frames(1, 2))
    for run, age_s in ((old, 10 * hour), (middle, 2 * hour), (new, 0)):
        desk.finish(run.id, 3)
        change = text(f"UPDATE runs SET ended_at = ended_at - {age_s * 10**6} WHERE id = '{run.id}'")
        desk.sessions.database.write(lambda connection, change=change: connection.execute(change))
    desk.sessions.database.write(lambda connection: connection.execute(text("UPDATE runs SET created_at = 1 WHERE ended_at IS NULL")))
    assert desk.runs.expire(retention_s=5 * hour, events_retention_s=hour) == 1
    left = {run.id: run.are_events_expired for run in desk.runs.list(RunFilter(), EVERYONE).runs}
    assert left == {middle.id: True, new.id: False, running.id: False, waiting.id: False}
    assert [bool(desk.log.read(run.id, 0)) for run in (middle, new, running)] == [False, True, True]
    assert desk.runs.get(middle.id, EVERYONE).terminal == frames(3, text="done")
    assert {run_id for run_id, _ in desk.deliveries()} == {middle.id, new.id}


def test_events_do_not_outlive_their_run_though_they_are_kept_longer(desk: RunDesk) -> None:
    for _ in range(30):
        run = desk.start()
        desk.write(run.id, frames(1))
        desk.finish(run.id, 2)
    assert desk.runs.expire(retention_s=0, events_retention_s=3_600) == 30
    with desk.sessions.database.reading() as connection:
        assert connection.execute(select(runs.c.id)).all() == connection.execute(select(run_events.c.run_id)).all() == []


def test_large_runs_are_deleted_by_few_at_a_time(desk: RunDesk) -> None:
    large = b"x" * (BATCH_BYTES * 2 // 3)
    sizes = {"events": (large, b"", b""), "request": (b"", large, b""), "result": (b"", b"", large), "small": (b"", b"", b"")}
    for events, request, result in (*sizes.values(), sizes["small"]):
        run = desk.start(request=request)
        desk.write(run.id, Chunk(1, 1, events + b"\n\n"))
        desk.finish(run.id, 2, result=result)
    desk.write((huge := desk.start()).id, Chunk(1, 1, large * 2), Chunk(2, 1, large * 2))
    desk.finish(huge.id, 3)
    for step, batches in ((expire_events, [5, 1]), (expire_runs, [2, 4])):
        done = []
        while count := desk.sessions.database.write(lambda connection, step=step: step(connection, time_ns())):
            done.append(count)
        assert done == batches


def test_the_terminal_chunk_is_the_very_bytes(desk: RunDesk) -> None:
    run = desk.start()
    terminal = Chunk(1, 2, bytes(range(256)))
    desk.runs.end(run.id, end(1, terminal=terminal))
    assert desk.runs.get(run.id, EVERYONE).terminal == terminal


def test_a_process_whose_first_runs_are_claimed_at_once_has_one_lease(open_run_desk: Callable[..., RunDesk]) -> None:
    one, other = open_run_desk(), open_run_desk()
    wanted = {other.add().id for _ in range(8)}
    with ThreadPoolExecutor(8) as pool:
        assert {run.id for run in pool.map(lambda _: one.claim("claude"), range(8))} == wanted
    with one.sessions.database.reading() as connection:
        assert connection.execute(select(owners.c.id)).scalars().all() == [one.id]


def test_a_run_that_goes_on_has_no_terminal_event_and_an_unknown_one_is_an_error(desk: RunDesk) -> None:
    assert desk.runs.terminal_of(desk.add().id) is None
    with pytest.raises(NotFound):
        desk.runs.terminal_of("run_0")
