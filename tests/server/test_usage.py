"""`GET /api/v1/usage` and `clinvk usage`: what is there is what ran."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.command import Command
from tests.parts.processes import eventually
from tests.parts.server import Server

USAGE = "/api/v1/usage"
KEYS = {"anna": "a-key-of-anna-0123456789", "ben": "a-key-of-ben-0123456789"}
PRICES = {"demo/*": {"input": 1_000_000, "output": 1_000_000}, "other": {"input": 1, "output": 1}}


BODIES: dict[str, dict[str, Any]] = {
    "claude": {"prompt": "hi"},
    "failed": {"prompt": do(["fail", "no", 500])},
    "dry": {"prompt": "hi", "dry_run": True},
    "demo": {"prompt": "hi", "backend": "demo"},
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, Any]]]:
    """A server without keys, where the caller sees all, and its answers to `BODIES`."""
    cli = FakeCli(tmp_path_factory.mktemp("cli") / "reports")
    config = {"default_backend": "claude", "backends": {"claude": cli.backend()}, "prices": PRICES}
    server = Server(tmp_path_factory.mktemp("open"), config)
    answers = {name: server.client.post("/api/v1/prompt", body).json for name, body in BODIES.items()}
    tasks = [{"prompt": "one", "backend": "demo"}, {"prompt": "two", "backend": "demo"}]
    assert server.client.post("/api/v1/parallel", {"tasks": tasks}).status == 200
    later = server.client.post("/api/v1/prompt", {"prompt": "hi", "background": True}).json
    assert server.client.get(f"/api/v1/runs/{later['id']}?wait=30").json["status"] == "completed"
    yield server, answers
    server.stop()


@pytest.fixture
def open_server(played: tuple[Server, dict[str, Any]]) -> Server:
    return played[0]


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = {"default_backend": "demo", "server": {"api_keys": [f"{name}={key}" for name, key in KEYS.items()]}}
    server = Server(tmp_path_factory.mktemp("closed"), config, {"CLINVK_API_KEY": KEYS["anna"]})
    yield server
    server.stop()


def rows(client: Client, query: str = "", headers: dict[str, str] | None = None) -> Any:
    answer = client.ask("GET", f"{USAGE}{query}", None, headers or {})
    assert answer.status == 200, answer.body
    return answer.json


def test_every_execution_counts_once_and_a_dry_run_does_not(open_server: Server) -> None:
    found = rows(open_server.client, "?group_by=backend")
    assert {row["backend"]: (row["runs"], row["failures"]) for row in found["usage"]} == {"claude": (3, 1), "demo": (3, 0)}
    assert (found["total"]["runs"], found["group_by"]) == (6, ["backend"])


@pytest.mark.parametrize("group", ["key", "backend", "model", "day", "model,key,day,backend"])
def test_each_grouping_has_the_same_total(open_server: Server, group: str) -> None:
    found = rows(open_server.client, f"?group_by={group}")
    assert sum(row["runs"] for row in found["usage"]) == found["total"]["runs"] == 6
    assert set(found["group_by"]) == set(group.split(","))
    assert all(set(group.split(",")) <= row.keys() for row in found["usage"])


def test_a_time_within_the_day_is_exact(open_server: Server) -> None:
    now = datetime.now(UTC)
    around = [(now - timedelta(hours=1)).isoformat(), now.isoformat()]
    since, until = (time.replace("+00:00", "Z") for time in around)
    assert rows(open_server.client, f"?from={since}&to={until}")["total"]["runs"] == 6
    assert rows(open_server.client, f"?from={now.date()}")["total"]["runs"] == 6
    assert rows(open_server.client, f"?to={since}")["total"]["runs"] == 0


def test_a_cost_that_the_cli_does_not_report_is_estimated_and_marked(played: tuple[Server, dict[str, Any]]) -> None:
    server, answers = played
    answer = answers["demo"]
    tokens = answer["token_usage"]["input_tokens"] + answer["token_usage"]["output_tokens"]
    assert (answer["cost_usd"], answer["cost_estimated"]) == (tokens, True)
    assert "cost_estimated" not in answers["claude"]
    by_backend = {row["backend"]: row for row in rows(server.client, "?group_by=backend")["usage"]}
    assert by_backend["demo"]["cost_estimated"] is True
    assert by_backend["demo"]["cost_usd"] == by_backend["demo"]["input_tokens"] + by_backend["demo"]["output_tokens"]
    assert "cost_estimated" not in by_backend["claude"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("group_by=colour", "group_by"),
        ("group_by=", "group_by"),
        ("from=yesterday", "from"),
        ("to=2026-01-01T00:00:00", "to"),
        ("from=2026-02-01&to=2026-01-01", "from"),
        ("from=1960-01-01", "from"),
        ("wrong=1", "wrong"),
    ],
)
def test_a_wrong_question_is_told_so(open_server: Server, query: str, field: str) -> None:
    answer = open_server.client.get(f"{USAGE}?{query}")
    assert (answer.status, answer.json["error"]["details"]["field"]) == (400, field)


def test_a_key_sees_its_own_usage_alone(closed_server: Server) -> None:
    for name, key in KEYS.items():
        for _ in range(2 if name == "anna" else 1):
            assert closed_server.client.ask("POST", "/api/v1/prompt", {"prompt": "hi"}, {"X-Api-Key": key}).status == 200
    found = rows(closed_server.client, "?group_by=key", {"X-Api-Key": KEYS["ben"]})
    assert [(row["key"], row["runs"]) for row in found["usage"]] == [("ben", 1)]
    assert rows(closed_server.client, "?key=ben", {"X-Api-Key": KEYS["ben"]})["total"]["runs"] == 1
    refused = closed_server.client.ask("GET", f"{USAGE}?key=anna", None, {"X-Api-Key": KEYS["ben"]})
    assert (refused.status, refused.json["error"]["code"]) == (403, "permission_denied")


def test_the_command_shows_a_table_and_the_answer(open_server: Server, tmp_path: Path) -> None:
    clinvk = Command(tmp_path, "usage", {"CLINVK_SERVER_URL": open_server.url})
    shown = clinvk("usage", "--by", "backend")
    assert shown.stdout.splitlines()[0].split() == ["BACKEND", "RUNS", "FAILED", "INPUT", "CACHED", "OUTPUT", "COST", "TIME"]
    assert [line.split()[0] for line in shown.stdout.splitlines()[1:]] == ["claude", "demo", "total"]
    assert clinvk("usage", "--by", "backend", "--json").stdout.startswith("{")


def test_what_is_not_stored_yet_is_stored_when_the_server_ends(tmp_path: Path) -> None:
    server = Server(tmp_path, {"default_backend": "demo"})
    assert server.client.post("/api/v1/prompt", {"prompt": "hi"}).status == 200
    server.stop()
    again = Server(
        tmp_path / "again", {"default_backend": "demo", "session": {"database_url": f"sqlite:///{server.clinvk_home}/sessions.db"}}
    )
    assert eventually(lambda: rows(again.client)["total"]["runs"] == 1)
    again.stop()
