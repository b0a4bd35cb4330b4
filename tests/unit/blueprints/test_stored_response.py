"""A stored run becomes a response, also one that no CLI has ended."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from blueprints.openai.responses.ids import RESPONSE, new_id, node_of, run_of, to_run_id
from blueprints.openai.responses.stored import to_current, to_terminal
from blueprints.openai.responses.stream import event
from services.access.scope import EVERYONE, Scope
from services.runs.record import Chunk, Run, RunError

ANNA = Scope("anna")
SECRET = bytes(range(32))
ID = to_run_id(b"nine byte")
LOST = RunError(code="worker_lost", message="its process has ended")
CANCELLED = RunError(code="cancelled", message="the run was cancelled")


def response(**more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "status": "queued", "model": "m", "output": [], "error": None, "store": True, **more}


BEGUN = Chunk(0, 2, event("response.created", 0, response=response()) + event("response.queued", 1, response=response()))


def run(**more: Any) -> Run:
    facts: dict[str, Any] = {"kind": "response", "owner": "anna", "is_background": True, "request_id": "req_1", "status": "queued"}
    return Run(**{"id": ID, "created_at": 1_700_000_000_000_000, "backend": "claude", "metadata": {"a": "b"}, **facts, **more})


def events(chunk: Chunk) -> list[dict[str, Any]]:
    found = [orjson.loads(frame.rpartition(b"data: ")[2]) for frame in chunk.data.split(b"\n\n")[:-1]]
    assert [one["sequence_number"] for one in found] == list(range(chunk.first, chunk.last + 1))
    return found


@pytest.mark.parametrize(("status", "shown"), [("queued", "queued"), ("running", "in_progress"), ("waiting", "in_progress")])
def test_a_response_that_has_not_ended_is_as_it_was_created_but_for_its_status(status: str, shown: str) -> None:
    assert to_current(run(status=status), BEGUN, SECRET) == response(status=shown)


def test_a_response_that_has_ended_is_that_of_its_last_event() -> None:
    final = response(status="completed", output=[{"text": 'a\n\ndata: {"response": 1}'}])
    end = Chunk(7, 2, event("response.output_item.done", 7, item={}) + event("response.completed", 8, response=final))
    assert to_current(run(status="completed", terminal=end), None, SECRET) == final


@pytest.mark.parametrize("is_background", [False, True])
def test_a_lost_run_is_an_error_and_a_failed_response(is_background: bool) -> None:
    found = events(to_terminal(run(begun=BEGUN, is_background=is_background), 5, LOST, SECRET))
    assert [one["type"] for one in found] == ["error", "response.failed"]
    assert found[0]["error"] == {"message": LOST.message, "type": "server_error", "param": None, "code": "worker_lost"}
    assert found[1]["response"] == response(status="failed", error={"code": "server_error", "message": LOST.message})


def test_a_background_response_that_was_cancelled_is_no_error() -> None:
    (last,) = events(to_terminal(run(begun=BEGUN), 2, CANCELLED, SECRET))
    assert (last["type"], last["response"]) == ("response.failed", response(status="cancelled"))


def test_a_run_that_was_lost_before_its_first_event_has_a_response_that_leads_to_it() -> None:
    found = events(to_terminal(run(is_background=False, model="opus"), 0, LOST, SECRET))
    assert [one["type"] for one in found] == ["response.created", "error", "response.failed"]
    last = found[-1]["response"]
    assert run_of(SECRET, EVERYONE, last["id"], RESPONSE) == ID
    assert (last["model"], last["metadata"], last["created_at"], last["store"]) == ("opus", {"a": "b"}, 1_700_000_000, True)


def test_every_id_leads_to_the_run() -> None:
    node = node_of(ID)
    sessions = (None, "5f0c9c1e-0000-4000-8000-00000000000a")
    made = [new_id(SECRET, prefix, "claude", session, node, owner="anna") for session in sessions for prefix in (RESPONSE, "msg_")]
    assert {run_of(SECRET, ANNA, id, RESPONSE, "msg_") for id in made} == {ID}
    assert run_of(bytes(32), ANNA, made[0], RESPONSE) is None
    assert run_of(SECRET, ANNA, made[1], RESPONSE) is None


def test_the_id_of_a_response_follows_from_its_run_and_session() -> None:
    assert len({new_id(SECRET, RESPONSE, "claude", None, node_of(ID), owner="anna") for _ in range(9)}) == 1
