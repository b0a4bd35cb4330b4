"""An application in this process whose store has one caller's things. It starts no CLI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
import orjson
from flask.testing import FlaskClient
from sqlalchemy import event

from app.config.schema import Settings
from app.factory import create_app
from app.security.api_keys import KeyRing
from blueprints.context import Services
from blueprints.openai.responses.ids import MESSAGE, RESPONSE, new_id, new_node, to_run_id
from services.access.rights import Rights
from services.cancellation import Cancellation
from services.runs.live import LiveRun
from services.runs.record import Run
from services.store import cursors
from services.store.records import NewTurn, Session
from services.store.sessions import new_id as new_session_id
from tests.parts.client import Answer
from tests.parts.ownership.things import WORD, Things
from tests.parts.run_stores import end, new_run

KEYS = {"ada": "key-of-ada-0123456789", "bob": "key-of-bob-0123456789", "root": "key-of-root-0123456789"}


class InProcess:
    """A caller of the application, with the methods of `tests.parts.client.Client` that the trials use."""

    def __init__(self, app: flask.Flask, headers: Mapping[str, str]) -> None:
        self._client: FlaskClient = app.test_client()
        self._headers = headers

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {**self._headers, **(headers or {})}
        more = {} if body is None else {"data": orjson.dumps(body), "content_type": "application/json"}
        with self._client.open(path, method=method, headers=sent, environ_base={"REMOTE_ADDR": "127.0.0.1"}, **more) as response:
            return Answer(response.status_code, response.headers, response.get_data())

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, body: Any) -> Answer:
        return self.ask("POST", path, body)


@dataclass(frozen=True)
class Seeded:
    app: flask.Flask
    things: Things
    statements: list[str]
    """What the database has been asked, since it was last cleared."""

    @property
    def services(self) -> Services:
        found: Services = self.app.extensions["clinvk"]
        return found

    def caller(self, name: str | None) -> InProcess:
        """``name``: of the key; None: no key."""
        return InProcess(self.app, {"Authorization": f"Bearer {KEYS[name]}"} if name else {})


def make_app(home: Path, *, has_keys: bool = True) -> flask.Flask:
    """``root`` is an admin."""
    keys = [f"{name}={key}" for name, key in KEYS.items()] if has_keys else []
    app = create_app(Settings(home=str(home), default_backend="demo"), keys=KeyRing.of(*keys))
    if has_keys:
        app.extensions["clinvk"].access.replace({name: Rights(role="admin" if name == "root" else "user") for name in KEYS})
    return app


@contextmanager
def seeded(home: Path) -> Iterator[Seeded]:
    app = make_app(home)
    services: Services = app.extensions["clinvk"]
    things = _seed(services)
    statements: list[str] = []
    engine = services.conversations.store.database._engine
    assert engine
    event.listen(engine, "before_cursor_execute", lambda _, __, statement, *___: statements.append(statement))
    yield Seeded(app, things, statements)
    services.conversations.store.close()


def _seed(services: Services) -> Things:
    store = services.conversations.store
    about: dict[str, Any] = {"owner": "ada", "backend": "demo", "workdir": "/work", "title": f"about {WORD}", "tags": (WORD,)}
    session = store.add(Session(id=new_session_id(), **about))
    busy = store.begin(Session(id=new_session_id(), **about), NewTurn(prompt=WORD))
    response, busy_response = new_node(), new_node()
    run = _ended(services, title=WORD, session_id=session.id)
    _ended(services, id=to_run_id(response), kind="response", request=orjson.dumps({"body": {"input": WORD}}))
    busy_run = _started(services)
    _started(services, id=to_run_id(busy_response), kind="response")
    live = LiveRun(id="run_" + "1" * 24, kind="prompt", owner="ada", request_id="req_1", cancellation=Cancellation())
    services.runs.live.enter(live)

    def id(node: bytes, prefix: str = RESPONSE) -> str:
        return new_id(services.secret.value(), prefix, "demo", session.id, node, owner="ada")

    return {
        "backend": "demo",
        "word": WORD,
        "owner": "ada",
        "session": session.id,
        "prefix": session.id[:8],
        "upper": session.id.upper(),
        "busy_session": busy.session_id,
        "run": run.id,
        "busy_run": busy_run.id,
        "live_run": live.id,
        "response_run": to_run_id(response),
        "response": id(response),
        "item": id(response, MESSAGE),
        "turn_response": id(new_node()),
        "turn_item": id(new_node(), MESSAGE),
        "busy_response": id(busy_response),
        "sessions_cursor": cursors.encode("updated", 2**59, session.id),
        "found_cursor": cursors.encode("found", 2**39),
        "runs_cursor": cursors.encode("created", 2**59, run.id),
    }


def _started(services: Services, **more: Any) -> Run:
    services.runs.store.add(new_run(owner="ada", backend="demo", **more), max_waiting=100, max_waiting_per_owner=100)
    run = services.runs.store.claim(["demo"])
    assert run
    return run


def _ended(services: Services, **more: Any) -> Run:
    run = _started(services, **more)
    data = b'event: response.completed\ndata: {"response": {"id": "r", "store": true, "status": "completed", "output": []}}\n\n'
    services.runs.store.end(run.id, end(1, terminal=end(1).terminal._replace(data=data)))
    return run
