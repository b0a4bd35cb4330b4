"""Several workers and several servers: what they share (Redis, PostgreSQL), and which starts are refused because they would be wrong."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.schema import ServerSettings, SessionSettings, Settings
from app.server.shared_state import notes
from tests.conftest import ServerFactory
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.postgres import running_postgres
from tests.parts.processes import children, eventually
from tests.parts.programs import require_program
from tests.parts.server import Server
from tests.server.observability.scraped import scrape
from tests.server.observability.started import running

LIMITS = {"rate_limit_enabled": True, "rate_limit_burst": 4, "rate_limit_rps": 0.001}
LIMITED = {f"CLINVK_SERVER__{name.upper()}": str(value).lower() for name, value in LIMITS.items()}
GUNICORN = ("gunicorn", "-c", "deploy/gunicorn.conf.py")


@pytest.fixture
def redis_uri(tmp_path: Path) -> Iterator[str]:
    """A Redis of its own on a Unix socket."""
    path = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen([require_program("redis-server"), *options], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        assert eventually(path.exists)
        yield f"redis+unix://{path}"
        process.terminate()


def statuses(client: Client, count: int) -> list[int]:
    return [client.prompt("demo", "hello").status for _ in range(count)]


def test_two_workers_share_one_rate_limit_over_redis(server: ServerFactory, redis_uri: str) -> None:
    one = server({"default_backend": "demo", "server": LIMITS | {"workers": 2, "rate_limit_storage": redis_uri, "metrics_enabled": True}})
    assert eventually(lambda: b"clinvk_workers 2.0" in one.client.get("/metrics").body)
    assert statuses(one.client, 8) == [200] * 4 + [429] * 4


def test_two_servers_share_one_rate_limit_over_redis_key_by_key(server: ServerFactory, redis_uri: str) -> None:
    settings = LIMITS | {"rate_limit_storage": redis_uri, "api_keys": ["a=one-0123456789abc", "b=two-0123456789abc"]}
    first, second = (server({"default_backend": "demo", "server": settings}) for _ in range(2))
    assert statuses(Client(first.url, {"X-Api-Key": "one-0123456789abc"}), 3) == [200] * 3
    assert statuses(Client(second.url, {"X-Api-Key": "one-0123456789abc"}), 3) == [200, 429, 429]
    assert statuses(Client(first.url, {"X-Api-Key": "two-0123456789abc"}), 1) == [200]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with running_postgres() as url:
        yield url


@pytest.fixture
def pair(server: ServerFactory, fake_cli: FakeCli, database: str, tmp_path: Path) -> tuple[Server, Server]:
    """Two servers with one database, whose CLI keeps its sessions in one folder."""
    backend = fake_cli.backend(env={"CLAUDE_CONFIG_DIR": str(tmp_path / "claude")}, warm={"max": 0})
    config = {"default_backend": "claude", "backends": {"claude": backend}, "session": {"database_url": database}}
    return server(config), server(config)


def test_a_session_made_on_one_server_is_listed_and_continued_on_the_other(pair: tuple[Server, Server], tmp_path: Path) -> None:
    first, second = pair
    made = first.client.prompt("claude", "hello", workdir=str(tmp_path)).json["session_id"]
    assert made in {item["id"] for item in second.client.get("/api/v1/sessions").json["sessions"]}
    resumed = second.client.post(f"/api/v1/sessions/{made}/resume", {"prompt": "again"})
    assert (resumed.status, resumed.json["session_id"], resumed.json["error"]) == (200, made, None)
    turns = first.client.get(f"/api/v1/sessions/{made}/turns").json["turns"]
    assert [turn["prompt"] for turn in turns] == ["hello", "again"]
    assert second.client.ask("DELETE", f"/api/v1/sessions/{made}").status in (200, 204)
    assert first.client.get(f"/api/v1/sessions/{made}").status == 404


def test_a_turn_that_runs_on_one_server_is_a_conflict_on_the_other(pair: tuple[Server, Server], tmp_path: Path) -> None:
    first, second = pair
    made = first.client.prompt("claude", "hello", workdir=str(tmp_path)).json["session_id"]
    path = f"/api/v1/sessions/{made}/resume"
    with first.client.open("POST", path, {"prompt": do(["say", "x"], ["hang"]), "output_format": "stream-json"}) as stream:
        next(iter(stream.lines()))
        refused = second.client.post(path, {"prompt": "me too"})
        assert (refused.status, refused.json["error"]["code"]) == (409, "conflict")
        assert second.client.get(f"/api/v1/sessions/{made}").json["status"] == "running"
    assert eventually(lambda: second.client.post(path, {"prompt": "now"}).status == 200)


def test_a_server_that_is_killed_leaves_no_session_stuck_on_the_other(pair: tuple[Server, Server], tmp_path: Path) -> None:
    first, second = pair
    made = first.client.prompt("claude", "hello", workdir=str(tmp_path)).json["session_id"]
    path = f"/api/v1/sessions/{made}/resume"
    with first.client.open("POST", path, {"prompt": do(["say", "x"], ["hang"]), "output_format": "stream-json"}) as stream:
        next(iter(stream.lines()))
        for pid in (first.pid, *children(first.pid)):
            os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: second.client.post(path, {"prompt": "now"}).status == 200, 30)


def refusal(tmp_path: Path, *program: str, **env: str) -> str:
    """What a start that ends at once has said."""
    with running(tmp_path, *program, **env) as (process, _):
        assert process.wait(20) == 2
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    return said


def test_gunicorns_command_line_is_held_to_the_same_rule_as_the_settings(tmp_path: Path) -> None:
    said = refusal(tmp_path, *GUNICORN, "-w", "2", "wsgi:app", **LIMITED)
    assert "server.workers cannot be 2 with server.rate_limit_storage memory://: each worker would count for itself" in said


def test_a_start_by_gunicorn_says_that_no_key_is_an_admin(tmp_path: Path) -> None:
    with running(tmp_path, *GUNICORN, "wsgi:app", CLINVK_API_KEYS="ci=ci-0123456789abcdef") as (_, client):
        assert client.get("/health").status == 200
        assert (tmp_path / "log").read_text().count("clinvk: note: API keys: none is an admin") == 1


def test_workers_without_gevents_loop_are_refused(tmp_path: Path) -> None:
    assert "the worker class sync cannot serve" in refusal(tmp_path, *GUNICORN, "-k", "sync", "wsgi:app")


def test_no_worker_is_added_later_where_it_would_count_for_itself(tmp_path: Path) -> None:
    with running(tmp_path, *GUNICORN, "wsgi:app", **LIMITED) as (process, client):
        assert client.get("/health").status == 200
        process.send_signal(signal.SIGTTIN)
        assert eventually(lambda: "no worker is added: server.workers cannot be 2" in (tmp_path / "log").read_text())
        assert statuses(client, 6) == [200] * 4 + [429] * 2


def test_a_worker_is_added_later_where_it_does_no_harm(tmp_path: Path) -> None:
    with running(tmp_path, *GUNICORN, "wsgi:app", CLINVK_SERVER__METRICS_ENABLED="true") as (process, client):
        process.send_signal(signal.SIGTTIN)
        assert eventually(lambda: workers(client) == 2)
        process.send_signal(signal.SIGTTOU)
        assert eventually(lambda: workers(client) == 1, 20)


def workers(client: Client) -> float | None:
    """None where it was the worker that leaves that was asked."""
    try:
        return scrape(client).sum("workers")
    except OSError:
        return None


def test_limits_of_each_server_alone_are_told_where_sessions_are_shared() -> None:
    shared = SessionSettings(database_url="postgresql://u@db/clinvk")
    limited = ServerSettings(rate_limit_enabled=True)
    assert "each counts its rate limit alone" in notes(Settings(server=limited, session=shared))[0]
    assert notes(Settings(server=ServerSettings(rate_limit_enabled=True, rate_limit_storage="redis://r"), session=shared)) == []
    assert notes(Settings(server=limited)) == notes(Settings(session=shared)) == []
