"""Sessions over HTTP: lists, prefixes, two turns at a time, and a server that is killed in the middle of many."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.postgres import running_postgres
from tests.parts.processes import eventually
from tests.parts.server import Server
from tests.parts.sessions import begin, fork, resume, show, turns

MANY = 50


def config(fake_cli: FakeCli, **more: Any) -> dict[str, Any]:
    return {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, **more}


def listed(client: Client, query: str = "") -> list[str]:
    answer = client.get(f"/api/v1/sessions{query}")
    assert answer.status == 200, answer.body
    return [session["id"] for session in answer.json["sessions"]]


def test_a_prompt_is_a_session_that_can_be_found(fake_server: Server) -> None:
    client = fake_server.client
    id = begin(client, "claude", do(["say", "the unusual answer"]), title="A title", tags=["red", "blue"], metadata={"k": "v"}, max_turns=3)
    one = show(client, id[:13])
    assert (one["id"], one["title"], one["tags"], one["metadata"], one["status"]) == (id, "A title", ["red", "blue"], {"k": "v"}, "idle")
    assert (one["turn_count"], one["cost_usd"], one["options"], one["backend"]) == (1, 0.25, {"max_turns": 3}, "claude")
    assert one["token_usage"] == {"input_tokens": 16, "output_tokens": 7, "cached_tokens": 5, "reasoning_tokens": 0}
    assert listed(client, "?q=unusual&tag=red&backend=claude&status=idle") == [id]
    assert listed(client, f"?workdir={one['workdir']}/&tag=blue") == [id]
    (turn,) = turns(client, id)
    assert (turn["number"], turn["output"], turn["exit_code"], turn["model"], turn["cost_usd"]) == (
        1, "the unusual answer", 0, "fake-model", 0.25,
    )  # fmt: skip
    assert turn["request_id"].startswith("req_")


def test_a_created_session_waits_for_its_first_turn(fake_server: Server, fake_cli: FakeCli) -> None:
    client = fake_server.client
    made = client.post("/api/v1/sessions", {"title": "later", "model": "some-model", "workdir": str(fake_server.workdir)})
    assert (made.status, made.json["turn_count"], made.json["status"]) == (201, 0, "idle")
    assert client.get(made.headers["Location"]).json["title"] == "later"
    assert resume(client, made.json["id"], do(["say", "hello"])).json["output"] == "hello"
    assert any("--model=some-model" in report["argv"] for report in fake_cli.reports())


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("GET", "?status=open", None, 400, "status"),
        ("GET", "?limit=1000", None, 400, "limit"),
        ("GET", "?bakend=claude", None, 400, "bakend"),
        ("GET", "?cursor=xyz", None, 400, "cursor"),
        ("POST", "", {"prompt": "x"}, 400, "prompt"),
        ("POST", "", {"backend": "nobody"}, 400, "backend"),
        ("POST", "", {"workdir": "/etc"}, 400, "workdir"),
        ("GET", "/nothing", None, 404, "session_id"),
        ("DELETE", "/ffffffff-0000-4000-8000-000000000000", None, 404, "session_id"),
        ("GET", "/ffff/turns", None, 404, "session_id"),
        ("POST", "/ffff/fork", {}, 404, "session_id"),
        ("POST", "/ffff/resume", {"prompt": "x"}, 404, "session_id"),
        ("POST", "/ffff/resume", {}, 400, "prompt"),
    ],
)
def test_what_is_wrong_is_named(fake_server: Server, method: str, path: str, body: Any, status: int, field: str) -> None:
    answer = fake_server.client.ask(method, f"/api/v1/sessions{path}", body)
    assert (answer.status, answer.json["error"]["details"]["field"]) == (status, field)


def test_the_second_of_two_turns_at_a_time_is_a_conflict(fake_server: Server, fake_cli: FakeCli) -> None:
    client = fake_server.client
    id = client.post("/api/v1/sessions", {}).json["id"]
    with client.open(
        "POST", f"/api/v1/sessions/{id}/resume", {"prompt": do(["say", "begun"], ["hang"]), "output_format": "stream-json"}
    ) as stream:
        first = next(stream.lines()).json
        assert (first["type"], first["session_id"]) == ("init", id)
        assert show(client, id)["status"] == "running"
        assert listed(client, "?status=running") == [id]
        for path in ("resume", "fork"):
            refused = client.post(f"/api/v1/sessions/{id}/{path}", {"prompt": "x"} if path == "resume" else {})
            assert (refused.status, refused.json["error"]["code"]) == (409, "conflict")
        assert client.ask("DELETE", f"/api/v1/sessions/{id}").status == 409
        assert len(fake_cli.reports()) == 1
    assert eventually(lambda: show(client, id)["status"] == "idle")
    assert [(turn["status"], turn["output"]) for turn in turns(client, id)] == [("cancelled", "begun")]


def test_of_many_turns_at_once_on_one_session_one_runs(fake_server: Server) -> None:
    client = fake_server.client
    id = client.post("/api/v1/sessions", {}).json["id"]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: resume(client, id, do(["say", f"{n}"], ["wait", 1])), range(16)))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 15
    assert [turn["output"] for turn in turns(client, id)] == [answer.json["output"] for answer in answers if answer.status == 200]


def test_pages_of_sessions_hold_each_once(fake_server: Server) -> None:
    client = fake_server.client
    made = [client.post("/api/v1/sessions", {"tags": ["page"]}).json["id"] for _ in range(7)]
    found: list[str] = []
    cursor = ""
    while True:
        page = client.get(f"/api/v1/sessions?tag=page&limit=3{cursor}").json
        found += [session["id"] for session in page["sessions"]]
        if not page["next_cursor"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == made[::-1]
    assert listed(client, "?tag=page&limit=3&offset=3") == made[::-1][3:6]


def test_turns_come_in_pages(fake_server: Server) -> None:
    client = fake_server.client
    id = client.post("/api/v1/sessions", {}).json["id"]
    for n in range(3):
        assert resume(client, id, do(["say", str(n)]), rebuild=True).status == 200
    page = client.get(f"/api/v1/sessions/{id}/turns?limit=2").json
    assert ([turn["number"] for turn in page["turns"]], page["next_after"]) == ([1, 2], 2)
    page = client.get(f"/api/v1/sessions/{id}/turns?limit=2&after=2").json
    assert ([turn["number"] for turn in page["turns"]], page["next_after"]) == ([3], None)


def test_an_ambiguous_prefix_is_a_conflict(fake_server: Server) -> None:
    client = fake_server.client
    made = [client.post("/api/v1/sessions", {}).json["id"] for _ in range(17)]
    prefix = next(id[0] for id in made if sum(other[0] == id[0] for other in made) > 1)
    answer = client.get(f"/api/v1/sessions/{prefix}")
    assert (answer.status, answer.json["error"]["code"]) == (409, "conflict")


def test_a_fork_of_a_session_that_the_cli_does_not_have_says_that_it_is_rebuilt(fake_server: Server, fake_cli: FakeCli) -> None:
    client = fake_server.client
    id = begin(client, "claude", "first question")
    forked = fork(client, id)
    assert forked["is_rebuilt_next"] is True
    assert resume(client, forked["id"], "what now?").json["output"] == "You said: what now?"
    (report,) = [report for report in fake_cli.reports() if report["prompt"] == "what now?"]
    told = [(message["role"], message["content"][0]["text"]) for message in report["history"]]
    assert told == [("user", "first question"), ("assistant", "You said: first question")]


def test_default_tags_and_no_token_numbers_where_the_configuration_says_so(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(config(fake_cli, session={"default_tags": ["team"], "store_token_usage": False}))
    id = begin(one.client, "claude", do(["say", "x"]), tags=["own"])
    assert show(one.client, id)["tags"] == ["team", "own"]
    assert turns(one.client, id)[0]["token_usage"] is None
    assert turns(one.client, id)[0]["cost_usd"] == 0.25


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {}
        return
    with running_postgres() as url:
        yield {"CLINVK_SESSION__DATABASE_URL": url}


def test_a_server_that_is_killed_amid_fifty_turns_leaves_nothing_stuck_and_loses_no_answer(
    database: dict[str, str], server: ServerFactory, fake_cli: FakeCli
) -> None:
    settings = config(fake_cli, server={"max_concurrent_runs": MANY})
    one = server(settings, env=database)
    answered = {begin(one.client, "claude", do(["say", f"answer {n}"])): f"answer {n}" for n in range(5)}
    resumed = next(iter(answered))
    with ThreadPoolExecutor(MANY) as pool:
        slow = [pool.submit(begin, one.client, "claude", do(["say", "begun"], ["hang"])) for _ in range(MANY - 10)]
        quick = [pool.submit(one.client.prompt, "claude", do(["tokens", 5, 0.01], ["say", f" {n}"])) for n in range(10)]
        for future in quick:
            answer = future.result().json
            answered[answer["session_id"]] = answer["output"]
        assert eventually(lambda: len(listed(one.client, "?status=running&limit=100")) == MANY - 10, 30)
        one.signal(signal.SIGKILL)
        one.wait()
        assert all(future.exception(30) for future in slow)
    again = server(settings, env={**database, "CLINVK_HOME": str(one.clinvk_home)})
    client = again.client
    assert listed(client, "?status=running") == []
    interrupted = listed(client, "?status=failed&limit=100")
    assert len(interrupted) == MANY - 10
    assert client.get("/health").json["sessions"]["count"] == MANY + 5
    for id in interrupted[:3]:
        assert [turn["status"] for turn in turns(client, id)] == ["interrupted"]
        assert resume(client, id, do(["say", "goes on"])).json["output"] == "goes on"
    for id, output in answered.items():
        assert [turn["output"] for turn in turns(client, id)] == [output]
    assert resume(client, resumed, "more", rebuild=True).status == 200
    if not database:
        path = one.clinvk_home / "sessions.db"
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        assert Path(path).stat().st_mode & 0o777 == 0o600
