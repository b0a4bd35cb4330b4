"""The same guarantees under every documented way to start the server, or a start that is refused or says what is missing.

The table of `docs/operations.md` ("Ways to start"), cell by cell. That metrics of several workers agree is in
`tests/server/observability/test_workers.py`.
"""

from __future__ import annotations

import signal
import socket
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.store.db import to_url
from services.store.records import Session
from services.store.sessions import SessionStore, new_id
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.native import events, text
from tests.parts.processes import eventually
from tests.server.observability.started import running

SERVE = ("app.cli", "serve")
FLASK = ("flask", "run", "--port", "{port}")
PLAIN = ("gunicorn", "-k", "gevent", "wsgi:app")
CONFIGURED = ("gunicorn", "-c", "deploy/gunicorn.conf.py", "wsgi:app")
EVERY = {"clinvk serve": SERVE, "flask run": FLASK, "gunicorn": PLAIN, "gunicorn -c": CONFIGURED}
UNDER_GUNICORN = {"gunicorn": PLAIN, "gunicorn -c": CONFIGURED}


def each(starts: dict[str, tuple[str, ...]]) -> Any:
    return pytest.mark.parametrize("start", starts.values(), ids=starts.keys())


@dataclass
class Standing:
    """A server that was started over what a killed one had left, with a session that nobody has used for years."""

    client: Client
    process: Any
    folder: Path
    left: Path
    session_id: str
    config: dict[str, Any]
    cli: FakeCli

    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module", params=EVERY.values(), ids=EVERY.keys())
def standing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    folder = tmp_path_factory.mktemp("start")
    cli = FakeCli(folder / "reports")
    config = {
        "default_backend": "claude",
        "backends": {"claude": cli.backend(warm={"max": 1, "min": 1, "min_free_mb": 0})},
        "server": {"read_timeout_secs": 0.5, "api_keys": ["old=first"]},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    session_id = add_old_session(folder / ".clinvk")
    left = folder / "clinvk-0123456789abcdef"
    left.mkdir()
    env = {"CLINVK_CONFIG": str(folder / "config.yaml"), "CLINVK_BACKEND": "claude"}
    with running(folder, *request.param, **env) as (process, client):
        client.headers["X-Api-Key"] = "first"
        yield Standing(client, process, folder, left, session_id, config, cli)


def add_old_session(home: Path) -> str:
    home.mkdir()
    store = SessionStore(to_url("", str(home)))
    session_id = store.add(Session(id=new_id(), owner="local", backend="claude", workdir="/work")).id
    store.close()
    with sqlite3.connect(home / "sessions.db") as database:
        database.execute("UPDATE sessions SET created_at = 1, updated_at = 1")
    database.close()
    return session_id


def test_what_a_killed_server_left_is_removed(standing: Standing) -> None:
    assert eventually(lambda: not standing.left.exists())
    assert eventually(lambda: "left behind by a server that was killed" in standing.log())


def test_old_sessions_are_deleted(standing: Standing) -> None:
    assert eventually(lambda: standing.client.get(f"/api/v1/sessions/{standing.session_id}").status == 404)


def test_processes_are_started_before_the_first_run(standing: Standing) -> None:
    assert eventually(standing.cli.initialized)


def test_a_request_s_head_has_a_time_limit_or_the_start_says_that_it_has_none(standing: Standing) -> None:
    if "flask run is for development" in standing.log():
        assert "no time limit for a request's head" in standing.log()
        assert "clinvk serve has both" in standing.log()
        return
    port = int(standing.client.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: local")
        assert client.recv(100) == b""


def test_sighup_changes_keys_while_a_stream_goes_on(standing: Standing) -> None:
    go = standing.folder / "go"

    def status(key: str) -> int:
        return standing.client.get("/api/v1/backends", headers={"X-Api-Key": key}).status

    with standing.client.prompt_stream("claude", do(["say", "before "], ["wait_for", str(go)], ["say", "after"])) as stream:
        lines = stream.lines()
        head = [next(lines), next(lines)]
        file = standing.folder / "config.yaml"
        file.write_text("server: {prot: 1}")
        standing.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: "the new configuration is invalid; keeping the old one" in standing.log())
        assert (status("first"), status("second")) == (200, 401)
        server = standing.config["server"] | {"api_keys": ["old=first", "new=second"]}
        file.write_text(yaml.safe_dump(standing.config | {"server": server}))
        standing.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: (status("first"), status("second")) == (200, 200))
        go.touch()
        found = events([*head, *lines])
    assert (text(found), found[-1]["type"]) == ("before after", "done")


@each(EVERY)
def test_sigterm_ends_a_stream_with_an_error_event(tmp_path: Path, start: tuple[str, ...]) -> None:
    cli = FakeCli(tmp_path / "reports")
    config = {"default_backend": "claude", "backends": {"claude": cli.backend()}, "server": {"shutdown_grace_secs": 0}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    env = {"CLINVK_CONFIG": str(tmp_path / "config.yaml"), "CLINVK_BACKEND": "claude"}
    with (
        running(tmp_path, *start, **env) as (process, client),
        client.prompt_stream("claude", do(["say", "hello"], ["hang"])) as stream,
    ):
        lines = stream.lines()
        head = [next(lines), next(lines)]
        process.send_signal(signal.SIGTERM)
        last = events([*head, *lines])[-1]
        assert (last["type"], "the server is stopping" in str(last["content"])) == ("error", True)
        assert process.wait(20) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def refusal(tmp_path: Path, *start: str, code: int = 2, **env: str) -> str:
    with running(tmp_path, *start, **env) as (process, _):
        assert process.wait(20) == code
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    return said


@each(EVERY)
def test_each_mistake_of_the_configuration_is_one_line_and_ends_the_start(tmp_path: Path, start: tuple[str, ...]) -> None:
    said = refusal(tmp_path, *start, CLINVK_SERVER__PROT="1", CLINVK_PARALLEL__MAX_WORKERS="x")
    assert sorted(line.split(": ")[1] for line in said.splitlines()[1:]) == ["CLINVK_PARALLEL__MAX_WORKERS", "CLINVK_SERVER__PROT"]


@each(EVERY)
@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ({"CLINVK_SESSION__DATABASE_URL": "nonsense"}, "session.database_url: expected"),
        ({"CLINVK_API_KEYS": "a=one,a=two"}, "another key is named 'a'"),
        ({"CLINVK_DEFAULT_BACKEND": "nobody", "CLINVK_BACKEND": ""}, "nobody"),
        ({"CLINVK_SERVER__WORKERS": "2", "CLINVK_SERVER__RATE_LIMIT_ENABLED": "true"}, "each worker would count for itself"),
    ],
    ids=["database", "keys", "backend", "several workers count rate limits in memory"],
)
def test_a_mistake_that_a_later_step_finds_is_told_likewise(
    tmp_path: Path, start: tuple[str, ...], mistake: dict[str, str], says: str
) -> None:
    assert says in refusal(tmp_path, *start, **mistake)


@each(UNDER_GUNICORN)
@pytest.mark.parametrize(
    ("options", "says"),
    [(("-w", "2"), "each worker would count for itself"), (("-k", "sync"), "cannot serve"), (("-k", "gevent_pywsgi"), "cannot serve")],
    ids=["-w 2", "-k sync", "-k gevent_pywsgi"],
)
def test_options_of_gunicorn_that_would_be_wrong_are_refused(
    tmp_path: Path, start: tuple[str, ...], options: tuple[str, ...], says: str
) -> None:
    said = refusal(tmp_path, *start[:-1], *options, start[-1], CLINVK_SERVER__RATE_LIMIT_ENABLED="true")
    assert says in said
    assert len(said.splitlines()) == 1


def test_gunicorn_with_preload_is_refused(tmp_path: Path) -> None:
    assert "--preload cannot be used" in refusal(tmp_path, *CONFIGURED[:-1], "--preload", CONFIGURED[-1], code=4)


def test_gunicorn_that_does_not_find_our_settings_is_told_what_to_add_and_does_not_start_again_and_again(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.touch()
    said = refusal(tmp_path, "gunicorn", "-c", str(empty), "-k", "gevent", "wsgi:app", code=4)
    assert said.count("add: -c python:app.server.gunicorn_conf") == 1
