"""What admin keys see, what those see who need no key, and whose are the things of before ownership."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.store.records import Session
from services.store.sessions import new_id
from tests.parts.ownership.seeded import InProcess, Seeded, make_app, seeded
from tests.parts.ownership.things import WORD


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Seeded]:
    with seeded(tmp_path) as place:
        yield place


def found(caller: InProcess, path: str) -> Any:
    answer = caller.get(path)
    assert answer.status == 200, answer.body
    return answer.json


def ids(caller: InProcess, path: str) -> set[str]:
    listed = found(caller, path)
    return {one["id"] for one in listed.get("sessions") or listed.get("runs") or ()}


def test_an_admin_sees_everybodys_things_and_whose_they_are(place: Seeded) -> None:
    root, things = place.caller("root"), place.things
    for path in ("sessions/{session}", "sessions/{prefix}", "sessions/{busy_session}", "runs/{run}", "runs/{busy_run}", "runs/{live_run}"):
        assert found(root, f"/api/v1/{path.format_map(things)}")["owner"] == "ada", path
    for path in (f"/api/v1/sessions?q={WORD}", "/api/v1/runs"):
        listed = found(root, path)
        assert {one["owner"] for one in listed.get("sessions") or listed["runs"]} == {"ada"}
    for name in ("response", "busy_response"):
        assert root.get(f"/openai/v1/responses/{things[name]}").status == 200


def test_the_owner_is_not_told_to_others_than_admins(place: Seeded) -> None:
    ada, things = place.caller("ada"), place.things
    for path in ("sessions/{session}", "runs/{run}"):
        assert "owner" not in found(ada, f"/api/v1/{path.format_map(things)}")
    assert "owner" not in found(ada, "/api/v1/sessions")["sessions"][0]
    assert "owner" not in found(ada, "/api/v1/runs")["runs"][0]


@pytest.mark.parametrize("path", ["/api/v1/sessions", "/api/v1/runs"])
def test_an_admin_filters_by_owner(place: Seeded, path: str) -> None:
    root, ada, bob = (place.caller(name) for name in ("root", "ada", "bob"))
    everything = ids(root, path)
    assert len(everything) >= 2
    assert ids(root, f"{path}?owner=ada") == ids(ada, f"{path}?owner=ada") == ids(ada, path) == everything
    assert not ids(root, f"{path}?owner=bob") | ids(ada, f"{path}?owner=bob") | ids(bob, f"{path}?owner=ada")
    assert ada.get(f"{path}?owner=%00").status == 400


def test_a_fork_belongs_to_who_made_it(place: Seeded) -> None:
    root, ada, things = place.caller("root"), place.caller("ada"), place.things
    made = root.post(f"/api/v1/sessions/{things['session']}/fork", {})
    assert (made.status, made.json["owner"], made.json["parent_id"]) == (201, "root", things["session"])
    assert ada.get(f"/api/v1/sessions/{made.json['id']}").status == 404
    own = ada.post(f"/api/v1/sessions/{things['session']}/fork", {}).json["id"]
    assert found(root, f"/api/v1/sessions/{own}")["owner"] == "ada"


def test_an_admin_manages_everybodys_things(place: Seeded) -> None:
    root, things = place.caller("root"), place.things
    for method, path, status in (
        ("POST", "/api/v1/runs/{busy_run}/cancel", 202),
        ("POST", "/api/v1/runs/{live_run}/cancel", 202),
        ("DELETE", "/api/v1/runs/{run}", 204),
        ("DELETE", "/openai/v1/responses/{response}", 200),
        ("DELETE", "/api/v1/sessions/{prefix}", 404),
        ("DELETE", "/api/v1/sessions/{session}", 200),
        ("GET", "/api/v1/sessions/{session}", 404),
    ):
        assert root.ask(method, path.format_map(things)).status == status, path


def test_sessions_of_before_ownership_are_for_admins(place: Seeded) -> None:
    old = place.services.conversations.store.add(Session(id=new_id(), owner="local", backend="demo", workdir="/work"))
    path = f"/api/v1/sessions/{old.id}"
    assert [place.caller(name).get(path).status for name in ("root", "ada", "bob")] == [200, 404, 404]


def test_without_keys_everything_is_seen_and_what_is_made_is_local(place: Seeded, tmp_path: Path) -> None:
    app = make_app(tmp_path, has_keys=False)
    nobody = InProcess(app, {"Host": "localhost"})
    assert {one["owner"] for one in found(nobody, "/api/v1/sessions")["sessions"]} == {"ada"}
    assert nobody.get(f"/openai/v1/responses/{place.things['response']}").status == 200
    made = nobody.post("/api/v1/sessions", {})
    assert (made.status, made.json["owner"]) == (201, "local")
    app.extensions["clinvk"].conversations.store.close()
