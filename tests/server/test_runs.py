"""Runs over HTTP: in the background, listed, followed from any event on, cancelled, deleted, repeated with a key."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.store import cursors
from tests.conftest import ServerFactory
from tests.parts.client import Client, Stream
from tests.parts.clis import FakeCli, do
from tests.parts.native import events, text
from tests.parts.processes import alive, command_line, descendants, eventually
from tests.parts.server import Server

RUNS = "/api/v1/runs"
SSE = {"Accept": "text/event-stream"}
FIELDS = [
    "id", "owner", "kind", "background", "title", "tags", "metadata", "status", "position", "priority", "attempt", "session_id", "backend", "model",
    "last_tool", "created_at", "started_at", "ended_at", "result", "error", "meta",
]  # fmt: skip


def submit(
    client: Client, *steps: Any, path: str = "/api/v1/prompt", headers: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    """The accepted run."""
    body = {"backend": "claude", "prompt": do(*steps), "background": True, **fields}
    answer = client.ask("POST", path, body, headers or {})
    assert answer.status == 202, answer.body
    assert answer.headers["Location"] == f"{RUNS}/{answer.json['id']}"
    assert answer.headers["X-Clinvk-Run-Id"] == answer.json["id"]
    found: dict[str, Any] = answer.json
    return found


def show(client: Client, run_id: str, query: str = "") -> dict[str, Any]:
    answer = client.get(f"{RUNS}/{run_id}{query}")
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


def ended(client: Client, run_id: str) -> dict[str, Any]:
    run = show(client, run_id, "?wait=60")
    assert run["ended_at"], run
    return run


def follow(client: Client, run_id: str, after: int = 0) -> Stream:
    return client.open("GET", f"{RUNS}/{run_id}/events", None, {**SSE, "Last-Event-ID": str(after)})


def is_running(client: Client, run_id: str) -> bool:
    return show(client, run_id)["status"] == "running"


def test_a_background_run_is_answered_at_once_and_has_the_result_of_the_synchronous_call(fake_server: Server) -> None:
    client = fake_server.client
    run = submit(client, ["say", "done"], title="A title", tags=["red"], metadata={"k": "v"})
    assert list(run) == FIELDS
    assert (run["kind"], run["background"], run["title"], run["tags"], run["metadata"]) == ("prompt", True, "A title", ["red"], {"k": "v"})
    end = ended(client, run["id"])
    assert (end["status"], end["error"], end["attempt"], end["priority"], end["position"]) == ("completed", None, 1, 5, None)
    now = client.prompt("claude", do(["say", "done"])).json
    assert list(end["result"]) == list(now)
    assert (end["result"]["output"], end["result"]["run_id"], end["result"]["meta"]) == ("done", run["id"], run["meta"])
    assert (end["session_id"], end["model"]) == (end["result"]["session_id"], "fake-model")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/parallel", {"tasks": [{"prompt": do(["say", "a"])}, {"prompt": do(["say", "b"])}]}),
        ("/chain", {"steps": [{"prompt": do(["say", "a"])}, {"prompt": "{{previous}}"}]}),
        ("/compare", {"prompt": do(["say", "a"]), "backends": ["claude", "demo"]}),
    ],
)
def test_several_runs_in_the_background_are_one_run(fake_server: Server, path: str, body: dict[str, Any]) -> None:
    client = fake_server.client
    run = client.ask("POST", f"/api/v1{path}", {**body, "background": True}).json
    end = ended(client, run["id"])
    assert (end["kind"], end["status"], end["backend"], end["session_id"]) == (path[1:], "completed", None, None)
    with follow(client, run["id"]) as stream:
        found = [arrival.json for arrival in stream.events()]
    assert [event["type"] for event in found].count("result") == 1
    assert found[-1]["content"] == end["result"]
    assert {event["content"]["run_id"] for event in found if event["type"] == "init"} == {run["id"]}


def test_a_preference_is_the_same_and_the_body_wins(fake_server: Server) -> None:
    client, body = fake_server.client, {"backend": "claude", "prompt": do(["say", "done"])}
    later = client.ask("POST", "/api/v1/prompt", body, {"Prefer": "wait=5, Respond-Async; x=1"})
    assert (later.status, later.headers["Preference-Applied"]) == (202, "respond-async")
    now = client.ask("POST", "/api/v1/prompt", {**body, "background": False}, {"Prefer": "respond-async"})
    assert (now.status, now.headers.get("Preference-Applied")) == (200, None)
    assert now.headers["X-Clinvk-Run-Id"] == now.json["run_id"]


@pytest.mark.parametrize("name", ["priority", "on_worker_lost", "webhook"])
def test_fields_of_background_runs_are_refused_without_it(fake_server: Server, name: str) -> None:
    value = {"priority": 1, "on_worker_lost": "retry", "webhook": {"url": "https://example.com"}}[name]
    answer = fake_server.client.ask("POST", "/api/v1/prompt", {"prompt": "hi", name: value})
    assert (answer.status, answer.json["error"]["details"]["field"]) == (400, name)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"prompt": ""}, 400), ({"prompt": "hi", "backend": "nobody"}, 400), ({"prompt": "hi", "workdir": "/etc"}, 400), ({}, 400)],
)
def test_what_the_synchronous_call_refuses_is_refused_before_there_is_a_run(fake_server: Server, body: dict[str, Any], status: int) -> None:
    before = len(fake_server.client.get(RUNS).json["runs"])
    answer = fake_server.client.ask("POST", "/api/v1/prompt", {**body, "background": True})
    assert (answer.status, answer.headers.get("X-Clinvk-Run-Id")) == (status, None)
    assert len(fake_server.client.get(RUNS).json["runs"]) == before


def test_events_are_the_same_live_later_from_the_middle_and_as_ndjson(fake_server: Server) -> None:
    client = fake_server.client
    body = {"backend": "claude", "prompt": do(["say", "one"], ["say", "two"], ["say", "three"]), "background": True}
    with client.open("POST", "/api/v1/prompt", body, SSE) as stream:
        run_id = stream.headers["X-Clinvk-Run-Id"]
        live = list(stream.events())
    found = events(live)
    assert (text(found), found[0]["content"]["run_id"]) == ("onetwothree", run_id)
    with follow(client, run_id) as stream:
        assert [arrival.json for arrival in stream.events()] == found
    middle = found[1]["sequence"]
    with follow(client, run_id, middle) as stream:
        assert [arrival.json for arrival in stream.events()] == found[middle:]
    as_lines = client.ask("GET", f"{RUNS}/{run_id}/events?after=0", None, {"Accept": "application/x-ndjson"})
    assert as_lines.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in as_lines.body.splitlines()] == found
    assert client.ask("GET", f"{RUNS}/{run_id}/events", None, {"Last-Event-ID": str(found[-1]["sequence"])}).status == 204


def test_a_reader_that_leaves_does_not_stop_the_run_and_comes_back(fake_server: Server) -> None:
    client = fake_server.client
    run = submit(client, ["say", "one"], ["hang"], ["say", "two"])
    with follow(client, run["id"]) as stream:
        first = next(stream.events()).json
    assert (first["type"], first["sequence"]) == ("init", 1)
    assert is_running(client, run["id"])
    assert client.post(f"{RUNS}/{run['id']}/cancel", None).status == 202
    with follow(client, run["id"], 1) as stream:
        rest = [arrival.json for arrival in stream.events()]
    assert [event["sequence"] for event in rest] == list(range(2, 2 + len(rest)))
    assert (rest[-1]["type"], rest[-1]["content"]["code"]) == ("error", "cancelled")


def test_a_foreground_run_is_listed_and_cancelled_and_then_unknown(fake_server: Server) -> None:
    client = fake_server.client
    with client.prompt_stream("claude", do(["say", "so far"], ["tool", "ls", "a file"], ["hang"])) as stream:
        lines = (arrival.json for arrival in stream.lines())
        run_id = next(lines)["content"]["run_id"]
        run = show(client, run_id)
        assert (run["background"], run["status"], run["kind"], run["backend"]) == (False, "running", "prompt", "claude")
        assert run_id in [one["id"] for one in client.get(f"{RUNS}?status=running").json["runs"]]
        assert client.ask("DELETE", f"{RUNS}/{run_id}").status == 409
        assert client.post(f"{RUNS}/{run_id}/cancel", None).status == 202
        *_, end = lines
    assert (end["type"], end["content"]["code"]) == ("error", "cancelled")
    assert eventually(lambda: client.get(f"{RUNS}/{run_id}").status == 404)


def test_runs_of_the_compatible_surfaces_are_listed_while_they_go_on(fake_server: Server) -> None:
    client = fake_server.client
    body = {"model": "claude", "messages": [{"role": "user", "content": do(["say", "so far"], ["hang"])}], "max_tokens": 9, "stream": True}
    for path, kind in (("/openai/v1/chat/completions", "chat"), ("/anthropic/v1/messages", "message")):
        with client.open("POST", path, body) as stream:
            run_id = stream.headers["X-Clinvk-Run-Id"]
            assert show(client, run_id)["kind"] == kind
            assert [one["id"] for one in client.get(f"{RUNS}?kind={kind}&status=running").json["runs"]] == [run_id]
        assert eventually(lambda run_id=run_id: client.get(f"{RUNS}/{run_id}").status == 404)


def test_pages_are_newest_first_and_end(fake_server: Server) -> None:
    client, title = fake_server.client, uuid.uuid4().hex
    made = [submit(client, ["say", "done"], title=title)["id"] for _ in range(5)]
    for run_id in made:
        ended(client, run_id)
    seen: list[str] = []
    cursor = ""
    while len(seen) < 5:
        page = client.get(f"{RUNS}?kind=prompt&limit=2{cursor}").json
        seen += [run["id"] for run in page["runs"] if run["title"] == title]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == made[::-1]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "status=done", "kind=job", "cursor=x", "unknown=1", "session_id=", "session_id=a%00", "session_id=a%0A",
        *(f"cursor={cursors.encode('created', 1, id)}" for id in ("a\0", "a\n", "\ud800")),
    ],
)  # fmt: skip
def test_bad_queries_are_refused(fake_server: Server, query: str) -> None:
    assert fake_server.client.get(f"{RUNS}?{query}").status == 400


def test_a_number_that_no_event_can_have_is_refused(fake_server: Server) -> None:
    client = fake_server.client
    run_id = ended(client, submit(client, ["say", "done"])["id"])["id"]
    for number, status in ((2**53, 204), (2**53 + 1, 400), (10**18 - 1, 400), (10**30, 400)):
        path = f"{RUNS}/{run_id}/events"
        assert client.get(f"{path}?after={number}").status == status
        assert client.ask("GET", path, None, {"Last-Event-ID": str(number)}).status == status


def test_a_deleted_run_is_unknown_everywhere_and_its_key_is_free(fake_server: Server) -> None:
    client, key = fake_server.client, {"Idempotency-Key": uuid.uuid4().hex}
    run = submit(client, ["say", "done"], headers=key)
    session_id = ended(client, run["id"])["session_id"]
    assert client.ask("DELETE", f"{RUNS}/{run['id']}").status == 204
    for method, path in (("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("DELETE", "")):
        assert client.ask(method, f"{RUNS}/{run['id']}{path}").status == 404
    assert client.get(f"/api/v1/sessions/{session_id}").status == 200
    assert submit(client, ["say", "done"], headers=key)["id"] != run["id"]


def test_two_turns_of_one_session_are_a_conflict_also_while_one_is_queued(server: ServerFactory, fake_cli: FakeCli) -> None:
    client = server(one_slot(fake_cli)).client
    session = client.prompt("claude", do(["say", "first"])).json["session_id"]
    blocker = submit(client, ["hang"])
    assert eventually(lambda: is_running(client, blocker["id"]))
    path = f"/api/v1/sessions/{session}/resume"
    queued = client.post(path, {"prompt": do(["say", "second"]), "background": True}).json
    assert (queued["status"], queued["kind"], queued["session_id"]) == ("queued", "resume", session)
    for more in ({"background": True}, {}):
        assert client.post(path, {"prompt": do(["say", "third"]), **more}).status == 409
    client.post(f"{RUNS}/{blocker['id']}/cancel", None)
    assert ended(client, queued["id"])["result"]["output"] == "second"
    assert client.get(f"/api/v1/sessions/{session}").json["turn_count"] == 2


def test_a_queued_run_has_a_place_and_is_cancelled_at_once(server: ServerFactory, fake_cli: FakeCli) -> None:
    client = server(one_slot(fake_cli)).client
    blocker = submit(client, ["hang"])
    assert eventually(lambda: is_running(client, blocker["id"]))
    low, high = submit(client, ["say", "low"]), submit(client, ["say", "high"], priority=0)
    assert (show(client, high["id"])["position"], show(client, low["id"])["position"]) == (1, 2)
    cancelled = client.post(f"{RUNS}/{high['id']}/cancel", None)
    assert (cancelled.status, cancelled.json["status"], cancelled.json["error"]["code"]) == (200, "cancelled", "cancelled")
    assert show(client, low["id"])["position"] == 1
    with follow(client, high["id"]) as stream:
        (event,) = [arrival.json for arrival in stream.events()]
    assert (event["type"], event["sequence"], event["content"]["code"]) == ("error", 1, "cancelled")
    again = client.post(f"{RUNS}/{high['id']}/cancel", None)
    assert (again.status, again.json["ended_at"]) == (200, cancelled.json["ended_at"])
    client.post(f"{RUNS}/{blocker['id']}/cancel", None)
    assert ended(client, low["id"])["status"] == "completed"


def test_a_cli_that_fails_is_a_failed_run_with_the_synchronous_result(fake_server: Server) -> None:
    client = fake_server.client
    run = ended(client, submit(client, ["fail", "it broke", 500])["id"])
    assert (run["status"], run["error"]["code"]) == ("failed", "backend_error")
    assert (run["result"]["error"], run["result"]["exit_code"]) == (run["error"]["message"], 1)


def test_a_run_is_bound_by_its_own_time_limit_and_not_by_that_of_requests(server: ServerFactory, fake_cli: FakeCli) -> None:
    config = {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"request_timeout_secs": 0.5}}
    client = server(config).client
    patient = submit(client, ["wait", 2], ["say", "done"])
    hasty = submit(client, ["hang"], timeout_secs=1)
    assert ended(client, hasty["id"])["error"]["code"] == "timeout"
    assert ended(client, patient["id"])["status"] == "completed"


# Idempotency.


def test_a_key_gives_the_same_run_and_the_same_answer(fake_server: Server) -> None:
    client, key = fake_server.client, {"Idempotency-Key": uuid.uuid4().hex}
    body = {"backend": "claude", "prompt": do(["say", "done"]), "ephemeral": True}
    first, again = (client.ask("POST", "/api/v1/prompt", body, key) for _ in range(2))
    assert (first.headers.get("Idempotent-Replayed"), again.headers["Idempotent-Replayed"]) == (None, "true")
    assert (again.status, again.body) == (first.status, first.body)
    for name in ("X-Request-ID", "X-Clinvk-Run-Id", "Content-Type"):
        assert again.headers[name] == first.headers[name]
    other = client.ask("POST", "/api/v1/prompt", {**body, "verbose": True}, key)
    assert (other.status, other.headers["x-should-retry"]) == (409, "false")
    assert client.ask("POST", "/api/v1/prompt", body, {**key, "Prefer": "respond-async"}).status == 409


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_a_stream_replays_as_the_same_stream(fake_server: Server, accept: str) -> None:
    client, headers = fake_server.client, {"Idempotency-Key": uuid.uuid4().hex, "Accept": accept}
    body = {"backend": "claude", "prompt": do(["say", "one"], ["say", "two"])}
    first, again = (client.ask("POST", "/api/v1/prompt", body, headers) for _ in range(2))
    assert (again.headers["Content-Type"], again.headers["Idempotent-Replayed"]) == (accept, "true")
    assert without_comments(again.body) == without_comments(first.body)
    assert b"two" in first.body


def test_an_error_after_the_start_replays_and_a_refusal_before_it_does_not(fake_server: Server) -> None:
    client, key = fake_server.client, {"Idempotency-Key": uuid.uuid4().hex}
    body = {"model": "claude", "messages": [{"role": "user", "content": do(["fail", "it broke", 500])}]}
    first, again = (client.ask("POST", "/openai/v1/chat/completions", body, key) for _ in range(2))
    assert (first.status, again.status, again.body) == (502, 502, first.body)
    assert first.headers["X-Clinvk-Run-Id"] == again.headers["X-Clinvk-Run-Id"]
    fresh = {"Idempotency-Key": uuid.uuid4().hex}
    refused = client.ask("POST", "/api/v1/prompt", {"backend": "nobody", "prompt": "hi"}, fresh)
    assert (refused.status, refused.headers.get("X-Clinvk-Run-Id")) == (400, None)
    assert client.ask("POST", "/api/v1/prompt", {"backend": "claude", "prompt": do(["say", "hi"])}, fresh).status == 200


def test_a_key_in_use_is_a_conflict_that_says_when_and_a_client_that_leaves_ends_it(fake_server: Server) -> None:
    client, key = fake_server.client, {"Idempotency-Key": uuid.uuid4().hex}
    body = {"backend": "claude", "prompt": do(["say", "so far"], ["hang"])}
    with client.open("POST", "/api/v1/prompt", body, {**key, **SSE}) as stream:
        next(stream.events())
        busy = client.ask("POST", "/api/v1/prompt", body, {**key, **SSE})
        assert (busy.status, busy.headers["Retry-After"]) == (409, "2")
    assert eventually(lambda: client.ask("POST", "/api/v1/prompt", body, {**key, **SSE}).status == 200)
    assert b'"code":"cancelled"' in client.ask("POST", "/api/v1/prompt", body, {**key, **SSE}).body


@pytest.mark.parametrize("key", ["", "x" * 256, "k\xe9y"])
def test_bad_keys_are_refused(fake_server: Server, key: str) -> None:
    answer = fake_server.client.ask("POST", "/api/v1/prompt", {"prompt": "hi"}, {"Idempotency-Key": key})
    assert (answer.status, answer.json["error"]["details"]["field"]) == (400, "Idempotency-Key")


ONE_KEY: dict[str, tuple[str, Callable[[str], dict[str, Any]], set[int]]] = {
    "background": ("/api/v1/prompt", lambda prompt: {"backend": "claude", "prompt": prompt, "background": True}, {202}),
    "foreground": ("/api/v1/prompt", lambda prompt: {"backend": "claude", "prompt": prompt}, {200, 409}),
    "chat": (
        "/openai/v1/chat/completions",
        lambda prompt: {"model": "claude", "messages": [{"role": "user", "content": prompt}]},
        {200, 409},
    ),
}
"""How it is asked → path, body of a prompt, statuses. 409: the run of the same key is going on."""


@pytest.mark.parametrize("how", ONE_KEY)
def test_one_key_from_many_clients_at_once_is_one_run(fake_server: Server, fake_cli: FakeCli, how: str) -> None:
    path, to_body, statuses = ONE_KEY[how]
    client, about, key = fake_server.client, uuid.uuid4().hex, {"Idempotency-Key": uuid.uuid4().hex}
    body = to_body(do(["wait", 0.5], ["say", "done"], about=about))
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: client.ask("POST", path, body, key), range(50)))
    assert {answer.status for answer in answers} <= statuses
    answered = [answer for answer in answers if answer.status < 300]
    assert len({answer.headers["X-Clinvk-Run-Id"] for answer in answered}) == 1
    assert [answer.headers.get("Idempotent-Replayed") for answer in answered].count(None) == 1
    assert ended(client, answered[0].headers["X-Clinvk-Run-Id"])["status"] == "completed"
    assert [about in report["prompt"] for report in fake_cli.reports()].count(True) == 1
    if 202 not in statuses:
        assert {answer.body for answer in [*answered, client.ask("POST", path, body, key)]} == {answered[0].body}


# The server stops.


def test_a_stop_ends_runs_in_the_grace_period_fails_the_rest_and_keeps_the_queue(server: ServerFactory, fake_cli: FakeCli) -> None:
    config = one_slot(fake_cli, shutdown_grace_secs=0.5)
    house = server(config)
    hanging, queued = submit(house.client, ["hang"]), submit(house.client, ["say", "later"])
    assert eventually(lambda: is_running(house.client, hanging["id"]))
    with follow(house.client, queued["id"]) as stream:
        house.signal(signal.SIGTERM)
        assert list(stream.events()) == []  # the reader comes back after the restart
    house.wait()
    client = server(config, env={"CLINVK_HOME": str(house.clinvk_home)}).client
    lost = show(client, hanging["id"])
    assert (lost["status"], lost["error"]["code"], lost["result"]) == ("failed", "server_stopped", None)
    with follow(client, hanging["id"]) as stream:
        *_, last = (arrival.json for arrival in stream.events())
    assert (last["type"], last["content"]["code"]) == ("error", "server_stopped")
    assert ended(client, queued["id"])["result"]["output"] == "later"


def test_a_killed_server_loses_its_runs_truthfully_and_restarts_those_that_ask(server: ServerFactory, fake_cli: FakeCli) -> None:
    config = {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"max_concurrent_runs": 2}}
    house = server(config)
    client = house.client
    lost = submit(client, ["say", "one"], ["hang"])
    retried = submit(client, ["say", "one"], ["hang"], on_worker_lost="retry")
    queued = submit(client, ["say", "later"])
    with follow(client, lost["id"]) as stream:
        seen = [next(stream.events()).json for _ in range(1)]
    assert eventually(lambda: is_running(client, retried["id"]))
    house.signal(signal.SIGKILL)
    house.wait()
    client = server(config, env={"CLINVK_HOME": str(house.clinvk_home)}).client
    assert show(client, lost["id"])["error"]["code"] == "worker_lost"
    with follow(client, lost["id"], seen[-1]["sequence"]) as stream:
        found = seen + [arrival.json for arrival in stream.events()]
    assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))
    assert (found[-1]["type"], found[-1]["content"]["code"]) == ("error", "worker_lost")
    assert eventually(lambda: show(client, retried["id"])["attempt"] == 2)
    assert ended(client, queued["id"])["status"] == "completed"
    client.post(f"{RUNS}/{retried['id']}/cancel", None)
    ended(client, retried["id"])
    with follow(client, retried["id"]) as stream:
        kinds = [arrival.json["type"] for arrival in stream.events()]
    assert (kinds.count("restarted"), kinds.count("init"), kinds[-1]) == (1, 2, "error")


def test_a_second_attempt_begins_when_the_agent_of_the_first_has_gone(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    config = {"default_backend": "claude", "backends": {"claude": fake_cli.backend(warm={"max": 0})}, "server": {"workers": 2}}
    house = server(config)
    second = tmp_path / "second"
    steps = [["ignore", 15], ["pid"], ["wait_for", str(second)], ["say", " again"]]
    run = submit(house.client, *steps, on_worker_lost="retry")
    first_pid = fake_cli.pid()
    worker = next(pid for pid in house.workers() if first_pid in descendants(pid))
    # Nobody but the other worker is left to notice: neither the parent, which would start a new one, nor the supervisor.
    stopped = [house.pid, *(pid for pid in descendants(worker) if "spawner_program.py" in command_line(pid))]
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        reports = fake_cli.wait_for(2)
        assert not alive(first_pid)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    second.touch()
    assert len(reports) == 2
    assert eventually(lambda: show(house.client, run["id"])["status"] == "completed")


def test_workers_see_and_cancel_each_others_runs(server: ServerFactory, fake_cli: FakeCli) -> None:
    config = {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"workers": 2}}
    client = server(config).client
    streams = [client.prompt_stream("claude", do(["say", "so far"], ["hang"])) for _ in range(6)]
    ids = {next(stream.lines()).json["content"]["run_id"] for stream in streams}
    for _ in range(6):
        assert ids <= {run["id"] for run in client.get(f"{RUNS}?status=running").json["runs"]}
    for run_id in ids:
        assert client.post(f"{RUNS}/{run_id}/cancel", None).status == 202
    for stream in streams:
        *_, end = (arrival.json for arrival in stream.lines())
        assert end["content"]["code"] == "cancelled"
        stream.hang_up()


def one_slot(fake_cli: FakeCli, **server: Any) -> dict[str, Any]:
    settings = {"max_concurrent_runs": 1, **server}
    return {"default_backend": "claude", "backends": {"claude": fake_cli.backend(env=fake_cli.keeping)}, "server": settings}


def without_comments(body: bytes) -> bytes:
    return b"\n\n".join(frame for frame in body.split(b"\n\n") if not frame.startswith(b":"))
