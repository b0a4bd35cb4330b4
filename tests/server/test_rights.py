"""A key that is limited to one backend, one model, one folder and a read-only sandbox: on every surface, what it may not do is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
import yaml
from flask import Flask

from app.config.load import load_settings
from app.factory import create_app
from app.runs import to_start
from services.access.rights import Rights
from services.cancellation import Cancellation
from services.errors import RightMissing
from services.requests import RunRequest
from tests.parts.clis import FakeCli
from tests.parts.keys import ring_of
from tests.unit.app.parts import LOCAL, ask

KEYS = {"limited": "limited-0123456789", "open": "open-0123456789", "other": "other-0123456789"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``all`` is the server's folder, ``all/mine`` the limited key's."""
    folder = tmp_path_factory.mktemp("rights")
    for name in ("all/mine/project", "all/other", "outside", "home"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def app(place: Path) -> Iterator[Flask]:
    cli = FakeCli(place / "reports")
    config = {
        "default_backend": "claude",
        "backends": {"claude": cli.backend(), "codex": cli.app_server(), "echo": {"command": ["cat"], "custom": {"output": "text"}}},
        "server": {"allowed_workdir_prefixes": [str(place / "all")]},
    }
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    settings = load_settings(str(place / "config.yaml"), environ={"HOME": str(place / "home"), "PATH": "/usr/bin:/bin"})
    made = create_app(settings, keys=ring_of(*(f"{name}={key}" for name, key in KEYS.items())))
    made.extensions["clinvk"].access.replace(
        {
            "limited": Rights(
                backends=("codex",),
                models=("gpt-5*", "default"),
                workdirs=(str(place / "all/mine"),),
                max_sandbox_mode="read-only",
                max_approval_mode="default",
            ),
            "open": Rights(role="admin"),
            "other": Rights(backends=("claude", "codex"), models=("sonnet", "codex/*")),
        }
    )
    yield made
    made.extensions["clinvk"].runner.close()
    made.extensions["clinvk"].spawner.close()
    made.extensions["clinvk"].conversations.store.close()


def send(app: Flask, path: str, body: Any = None, key: str = "limited", **headers: str) -> Any:
    given = {"method": "POST", "json": body} if body is not None else {}
    return ask(app, path, {"X-Api-Key": KEYS[key], **headers}, **given)


def dry(app: Flask, key: str = "limited", **fields: Any) -> Any:
    return send(app, "/api/v1/prompt", {"prompt": "hello", "dry_run": True, **fields}, key)


FORBIDDEN: dict[str, tuple[dict[str, Any], str, Any]] = {
    # fields of a native request, the right, the value
    "another backend": ({"backend": "claude"}, "backends", "claude"),
    "a backend that there is not": ({"backend": "nonsense"}, "backends", "nonsense"),
    "another model": ({"model": "o3"}, "models", "codex/o3"),
    "another folder": ({"workdir": "{place}/all/other"}, "workdirs", "{place}/all/other"),
    "a folder that there is not": ({"workdir": "{place}/all/nothing"}, "workdirs", "{place}/all/nothing"),
    "a writable sandbox": ({"sandbox_mode": "workspace"}, "max_sandbox_mode", "workspace"),
    "fewer questions": ({"approval_mode": "auto"}, "max_approval_mode", "auto"),
    "a flag": ({"extra": ["--disable", "x"]}, "max_approval_mode", "--disable"),
}


def filled(value: Any, place: Path) -> Any:
    if isinstance(value, dict):
        return {name: filled(part, place) for name, part in value.items()}
    return value.format(place=place) if isinstance(value, str) else value


def refused(answer: Any, right: str, value: Any = None, field: str | None = None) -> None:
    assert answer.status_code == 403, answer.get_data(as_text=True)
    error = answer.get_json()["error"]
    assert (error["code"], error["details"]["right"], error["details"].get("field")) == ("permission_denied", right, field)
    if value is not None:
        assert error["details"]["value"] == value
    assert "claude" not in error["message"].replace(f"{value!r}", "")


WAYS: dict[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any], str | None]]] = {
    "prompt": lambda fields: ("/api/v1/prompt", fields, None),
    "dry run": lambda fields: ("/api/v1/prompt", {**fields, "dry_run": True}, None),
    "stream": lambda fields: ("/api/v1/prompt", {**fields, "output_format": "stream-json"}, None),
    "background": lambda fields: ("/api/v1/prompt", {**fields, "background": True}, None),
    "parallel": lambda fields: ("/api/v1/parallel", {"tasks": [{"prompt": "fine"}, fields]}, "tasks[1]"),
    "parallel in the background": lambda fields: ("/api/v1/parallel", {"tasks": [fields], "background": True}, "tasks[0]"),
    "parallel dry run": lambda fields: ("/api/v1/parallel", {"tasks": [{"prompt": "fine"}, fields], "dry_run": True}, "tasks[1]"),
    "chain": lambda fields: ("/api/v1/chain", {"steps": [{"prompt": "fine"}, fields]}, "steps[1]"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_key_may_not_do_is_refused_with_the_right(app: Flask, place: Path, way: str, name: str) -> None:
    fields, right, value = filled(FORBIDDEN[name][0], place), FORBIDDEN[name][1], filled(FORBIDDEN[name][2], place)
    path, body, field = WAYS[way]({"prompt": "hello", **fields})
    refused(send(app, path, body), right, value, field)


@pytest.mark.parametrize("more", [{}, {"background": True}, {"dry_run": True}])
def test_one_forbidden_target_refuses_the_comparison(app: Flask, more: dict[str, Any]) -> None:
    answer = send(app, "/api/v1/compare", {"prompt": "hello", "targets": [{"backend": "codex"}, {"backend": "claude"}], **more})
    refused(answer, "backends", "claude", "targets[1]")


def test_the_server_s_own_folders_come_before_the_key_s(app: Flask, place: Path) -> None:
    for workdir in (place / "outside", place / "all/mine/nothing"):
        assert dry(app, workdir=str(workdir)).status_code == 400


def test_what_is_left_out_gets_the_key_s_default_and_its_ceiling(app: Flask, place: Path) -> None:
    answer = dry(app).get_json()
    assert (answer["backend"], answer["ignored"]) == ("codex", ["sandbox_mode"])
    assert dry(app, sandbox_mode="read-only").get_json()["ignored"] == []
    assert dry(app, model="gpt-5", workdir=str(place / "all/mine/project")).status_code == 200
    runner = app.extensions["clinvk"].runner
    invocation = runner.prepare(RunRequest(prompt="x", backend="codex", owner="limited"))
    assert (invocation.cwd, invocation.fields["thread"]["sandbox"]) == (str(place / "all/mine"), "read-only")
    assert runner.prepare(RunRequest(prompt="x", backend="codex", owner="open")).fields["thread"].get("sandbox") is None


def test_a_key_without_limits_may_do_it_all(app: Flask, place: Path) -> None:
    for fields, _, _ in FORBIDDEN.values():
        if fields != {"backend": "nonsense"}:
            asked = {"backend": "codex", **filled(fields, place)}
            assert dry(app, "open", **asked).status_code == (400 if "nothing" in str(asked) else 200), asked


@pytest.fixture
def sessions(app: Flask) -> dict[str, str]:
    """Sessions that were begun before the key was limited, by what of them it may not have."""
    made: dict[str, str] = {}
    limited = app.extensions["clinvk"].access.rights_of("limited")
    access = app.extensions["clinvk"].access
    before = {name: access.rights_of(name) for name in KEYS}
    place = limited.workdirs[0]
    access.replace({**before, "limited": Rights()})
    try:
        for name, fields in {
            "backend": {"backend": "claude", "workdir": place},
            "model": {"backend": "codex", "model": "o3", "workdir": place},
            "folder": {"backend": "codex", "workdir": str(Path(place).parent / "other")},
            "modes": {"backend": "codex", "workdir": place, "sandbox_mode": "full", "approval_mode": "none"},
        }.items():
            answer = send(app, "/api/v1/sessions", fields)
            assert answer.status_code == 201, answer.get_data(as_text=True)
            made[name] = answer.get_json()["id"]
    finally:
        access.replace(before)
    return made


def turn(app: Flask, session: str, **fields: Any) -> Any:
    return send(app, f"/api/v1/sessions/{session}/resume", {"prompt": "next", "dry_run": True, **fields})


@pytest.mark.parametrize(("name", "right"), [("backend", "backends"), ("model", "models"), ("folder", "workdirs")])
def test_an_older_session_outside_of_the_rights_has_no_further_turn(app: Flask, sessions: dict[str, str], name: str, right: str) -> None:
    for more in ({}, {"dry_run": False}, {"dry_run": False, "background": True}):
        answer = turn(app, sessions[name], **more)
        assert (answer.status_code, answer.get_json()["error"]["details"]["right"]) == (403, right), answer.get_json()


def test_the_modes_of_an_older_session_are_lowered_and_those_of_its_turn_refused(app: Flask, sessions: dict[str, str]) -> None:
    answer = turn(app, sessions["modes"])
    assert (answer.status_code, answer.get_json()["ignored"]) == (200, ["approval_mode", "sandbox_mode"])
    refused(turn(app, sessions["modes"], sandbox_mode="full"), "max_sandbox_mode", "full")
    refused(turn(app, sessions["modes"], approval_mode="none"), "max_approval_mode", "none")


def test_a_queued_run_has_the_rights_that_its_key_has_when_it_starts(app: Flask) -> None:
    held = app.extensions["clinvk"]
    submitted = [
        send(app, path, {**body, "background": True})
        for path, body in (
            ("/api/v1/prompt", {"prompt": "hello", "backend": "codex", "model": "gpt-5"}),
            ("/api/v1/compare", {"prompt": "hello", "targets": [{"backend": "codex", "model": "gpt-5"}]}),
            ("/openai/v1/responses", {"input": "hello", "model": "gpt-5"}),
        )
    ]
    assert [answer.status_code for answer in submitted] == [202, 202, 200]
    runs = [held.runs.store.claim(["codex"]) for _ in submitted]
    assert {run.id for run in runs} == {answer.headers["X-Clinvk-Run-Id"] for answer in submitted}
    before = {name: held.access.rights_of(name) for name in KEYS}
    for changed in (Rights(models=("o3",)), Rights(backends=("claude",))):
        held.access.replace({**before, "limited": changed})
        try:
            for run in runs:
                with pytest.raises(RightMissing):
                    to_start(app)(run, Cancellation(), 1).close()
        finally:
            held.access.replace(before)


# The compatible surfaces, with their own SDKs.


@pytest.fixture
def openai_client(app: Flask) -> Iterator[openai.OpenAI]:
    with httpx.Client(transport=httpx.WSGITransport(app=app, remote_addr=LOCAL["REMOTE_ADDR"])) as http:
        yield openai.OpenAI(base_url="http://localhost/openai/v1", api_key=KEYS["limited"], max_retries=0, http_client=http)


@pytest.fixture
def anthropic_client(app: Flask) -> Iterator[anthropic.Anthropic]:
    with httpx2.Client(transport=httpx2.WSGITransport(app=app, remote_addr=LOCAL["REMOTE_ADDR"])) as http:
        yield anthropic.Anthropic(base_url="http://localhost/anthropic", api_key=KEYS["limited"], max_retries=0, http_client=http)


HELLO: Any = [{"role": "user", "content": "hello"}]
COMPATIBLE: dict[str, tuple[str, str, str]] = {
    # model, folder, the right
    "another backend": ("claude", "", "backends"),
    "another backend's model": ("claude/opus", "", "backends"),
    "a name that another backend claims": ("my-sonnet-4-5", "", "backends"),
    "another model": ("o3", "", "models"),
    "another model of the backend": ("codex/o3", "", "models"),
    "another folder": ("codex", "all/other", "workdirs"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", COMPATIBLE)
def test_openai_s_sdk_raises_permission_denied(openai_client: openai.OpenAI, place: Path, name: str, stream: bool) -> None:
    model, folder, right = COMPATIBLE[name]
    headers = {"X-Clinvk-Workdir": str(place / folder)} if folder else {}
    for call in (
        lambda: openai_client.chat.completions.create(model=model, messages=HELLO, stream=stream, extra_headers=headers),
        lambda: openai_client.responses.create(model=model, input="hello", stream=stream, extra_headers=headers),
        lambda: openai_client.responses.create(model=model, input="hello", background=True, extra_headers=headers),
    ):
        with pytest.raises(openai.PermissionDeniedError, match=right):
            call()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", COMPATIBLE)
def test_anthropic_s_sdk_raises_permission_denied(anthropic_client: anthropic.Anthropic, place: Path, name: str, stream: bool) -> None:
    model, folder, right = COMPATIBLE[name]
    headers = {"X-Clinvk-Workdir": str(place / folder)} if folder else {}
    with pytest.raises(anthropic.PermissionDeniedError, match=right):
        anthropic_client.messages.create(model=model, max_tokens=9, messages=HELLO, stream=stream, extra_headers=headers)
    if right == "backends":
        with pytest.raises(anthropic.PermissionDeniedError, match=right):
            anthropic_client.messages.count_tokens(model=model, messages=HELLO)


@pytest.mark.parametrize("is_background", [False, True])
def test_what_is_lowered_is_named_on_every_surface(app: Flask, is_background: bool) -> None:
    for path, body in (
        ("/openai/v1/chat/completions", {"model": "gpt-5", "messages": HELLO}),
        ("/openai/v1/responses", {"model": "gpt-5", "input": "hello"} | ({"background": True} if is_background else {})),
        ("/anthropic/v1/messages", {"model": "gpt-5", "messages": HELLO, "max_tokens": 9}),
    ):
        answer = send(app, path, body)
        assert (answer.status_code, answer.headers["X-Clinvk-Backend"]) == (200, "codex"), answer.get_data(as_text=True)
        assert "sandbox_mode" in answer.headers["X-Clinvk-Ignored"].split(", ")
        assert "sandbox_mode" not in send(app, path, body, "open").headers.get("X-Clinvk-Ignored", "")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/openai/chat/completions", "/v1/messages", "/v1/responses"])
def test_aliases_of_the_routes_refuse_the_same(app: Flask, path: str) -> None:
    body = {"model": "claude", "messages": HELLO, "max_tokens": 9} if "responses" not in path else {"model": "claude", "input": "x"}
    assert send(app, path, body).status_code == 403


# What is shown.


def names(app: Flask, path: str, key: str) -> list[str]:
    return [model["id"] for model in send(app, path, key=key).get_json()["data"]]


@pytest.mark.parametrize("path", ["/openai/v1/models?all=true", "/anthropic/v1/models?all=true&limit=1000", "/v1/models?all=true"])
def test_models_are_those_that_the_key_may_use(app: Flask, path: str) -> None:
    assert names(app, path, "limited") == ["codex"]
    assert {"balanced", "claude/sonnet", "claude/balanced", "codex", "codex/gpt-6.1-sol"} <= set(names(app, path, "other"))
    assert not [name for name in names(app, path, "other") if "opus" in name or "echo" in name or name == "claude"]
    assert {"claude", "codex", "echo", "claude/opus"} <= set(names(app, path, "open"))


@pytest.mark.parametrize("surface", ["/openai/v1", "/anthropic/v1", "/v1"])
@pytest.mark.parametrize("name", ["claude", "claude/opus", "opus", "echo", "o3", "codex/o3", "nonsense"])
def test_a_model_of_another_backend_is_not_found(app: Flask, surface: str, name: str) -> None:
    answer = send(app, f"{surface}/models/{name}")
    assert answer.status_code == 404
    assert f"unknown model {name!r}; known: codex" in answer.get_data(as_text=True).replace('\\"', '"')
    assert send(app, f"{surface}/models/codex").status_code == 200


def test_backends_are_those_that_the_key_may_use_and_how(app: Flask) -> None:
    (codex,) = send(app, "/api/v1/backends").get_json()["backends"]
    assert (codex["name"], codex["is_default"], codex["models"], codex["allowed_extra"]) == ("codex", True, [], [])
    assert codex["options"]["sandbox_mode"] == ["read-only"]
    assert codex["options"]["approval_mode"] == ["always"]
    others = {one["name"]: one for one in send(app, "/api/v1/backends", key="other").get_json()["backends"]}
    assert set(others) == {"claude", "codex"}
    assert (others["claude"]["is_default"], others["claude"]["models"]) == (True, ["sonnet"])
    assert set(others["claude"]["aliases"].values()) == {"sonnet"}
    assert {"claude", "codex", "echo", "demo"} <= {one["name"] for one in send(app, "/api/v1/backends", key="open").get_json()["backends"]}


def test_a_key_s_unavailable_backend_names_no_other(app: Flask) -> None:
    access = app.extensions["clinvk"].access
    before = {name: access.rights_of(name) for name in KEYS}
    access.replace({**before, "limited": Rights(backends=("gemini", "lost"))})
    try:
        for backend, status in ((None, 503), ("gemini", 503), ("lost", 400)):
            answer = send(app, "/api/v1/prompt", {"prompt": "x"} | ({"backend": backend} if backend else {}))
            assert answer.status_code == status, answer.get_data(as_text=True)
            assert not [name for name in ("claude", "codex", "echo", "demo") if name in answer.get_json()["error"]["message"]]
    finally:
        access.replace(before)


def test_isolation_is_shown_as_the_key_gets_it(app: Flask) -> None:
    access = app.extensions["clinvk"].access
    before = {name: access.rights_of(name) for name in KEYS}
    access.replace({**before, "limited": Rights(backends=("echo",), isolation="sandbox")})
    try:
        (echo,) = send(app, "/api/v1/backends").get_json()["backends"]
        assert echo["isolation"]["sandbox"] == "bubblewrap"
    finally:
        access.replace(before)
