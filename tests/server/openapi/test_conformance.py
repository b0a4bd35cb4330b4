"""schemathesis asks every documented route for what its document promises: no 5xx, and no answer that is not documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.parts.server import Server
from tests.unit.app.parts import make_app

EXAMPLES = 30
"""For each operation, at random. Many of them start the demo backend."""
# schemathesis' other phase, every field at every limit, asks 2,900 times (45 s of the server's time); run so by hand, it passes.
CONFIG = SchemathesisConfig.from_dict({"phases": {"coverage": {"enabled": False}}})
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
KEY = {"X-Api-Key": "a-key-of-the-tests-0123456789"}
REQUEST_LINE_TOO_LONG = 414
"""gunicorn's own answer to a request line of more than 8,190 bytes: it comes before any route."""
ONLY_DEMO = {name: {"enabled": False} for name in ("claude", "codex", "gemini")}
"""A CLI that is not installed would be a 503, which is right, but not asked for here."""


def document() -> dict[str, Any]:
    """As every server gives it, whatever its settings."""
    found: dict[str, Any] = make_app().test_client().get("/openapi.json", buffered=True).json
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = {
        "default_backend": "demo",
        "backends": ONLY_DEMO,
        "server": {"api_keys": [{"name": "tests", "key": KEY["X-Api-Key"], "role": "admin"}]},
    }
    one = Server(tmp_path_factory.mktemp("openapi"), config)
    yield one
    one.stop()


schema = schemathesis.openapi.from_dict(document(), config=CONFIG)


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case: schemathesis.Case, server: Server) -> None:
    answer = case.call(base_url=server.url, headers=KEY)
    if answer.status_code != REQUEST_LINE_TOO_LONG:
        case.validate_response(answer, checks=CHECKS)


OPERATIONS = [found.ok() for found in schema.get_all_operations()]


def case_of(operation: Any, body: Any = schemathesis.core.NOT_SET, **path: str) -> schemathesis.Case:
    names = [name.strip("{}") for name in operation.path.split("/") if name.startswith("{")]
    return operation.Case(path_parameters={name: path.get(name, "x") for name in names}, body=body, media_type="application/json")


def named(method: str, path: str) -> Any:
    return next(one for one in OPERATIONS if (one.method.upper(), one.path) == (method, path))


REFUSALS: dict[str, tuple[int, dict[str, str]]] = {
    "no key": (401, {"X-Api-Key": ""}),
    "another host": (403, KEY | {"Host": "evil.example"}),
    "another origin": (403, KEY | {"Origin": "https://evil.example"}),
    "no JSON": (415, KEY | {"Content-Type": "text/plain"}),
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method.upper()} {one.path}")
@pytest.mark.parametrize("refusal", REFUSALS)
def test_every_route_documents_what_is_refused_before_it(operation: Any, refusal: str, server: Server) -> None:
    status, headers = REFUSALS[refusal]
    case = case_of(operation, body={})
    answer = case.call(base_url=server.url, headers=headers)
    is_open = operation.method.upper() == "GET" and refusal in ("no key", "another origin")  # health and such; what only reads
    assert answer.status_code == status or (is_open and answer.status_code in (200, 404))
    case.validate_response(answer, checks=CHECKS)


def test_a_session_is_as_documented_from_its_beginning_to_its_end(server: Server) -> None:
    def ask(method: str, path: str, body: Any = schemathesis.core.NOT_SET, **names: str) -> Any:
        answer = case_of(named(method, path), body, **names).call_and_validate(base_url=server.url, headers=KEY, checks=CHECKS)
        return answer.json()

    one = ask("POST", "/api/v1/prompt", {"prompt": "hello", "title": "t", "tags": ["a"], "metadata": {"k": "v"}})["session_id"]
    path = "/api/v1/sessions/{session_id}"
    assert ask("GET", "/api/v1/sessions")["sessions"][0]["id"] == one
    assert ask("GET", path, session_id=one)["turn_count"] == 1
    assert len(ask("GET", f"{path}/turns", session_id=one)["turns"]) == 1
    ask("POST", f"{path}/resume", {"prompt": "again", "rebuild": True}, session_id=one)
    ask("POST", f"{path}/fork", {}, session_id=one)
    assert ask("DELETE", path, session_id=one)["deleted"]
    ask("GET", path, session_id=one)


MESSAGE = {"model": "demo", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
SEVERAL: dict[str, dict[str, Any]] = {
    "/api/v1/parallel": {"tasks": [{"prompt": "hi"}]},
    "/api/v1/chain": {"steps": [{"prompt": "hi"}]},
    "/api/v1/compare": {"prompt": "hi", "backends": ["demo"]},
}
STREAMED: list[tuple[str, dict[str, Any], str]] = [
    *(("/api/v1/prompt", {"prompt": "hi"}, form) for form in ("text/event-stream", "application/x-ndjson")),
    *((path, body, form) for path, body in SEVERAL.items() for form in ("text/event-stream", "application/x-ndjson")),
    ("/openai/v1/chat/completions", MESSAGE, "text/event-stream"),
    ("/openai/v1/responses", {"model": "demo", "input": "hi", "stream": True}, "text/event-stream"),
    ("/anthropic/v1/messages", MESSAGE, "text/event-stream"),
]


@pytest.mark.parametrize(("path", "body", "form"), STREAMED)
def test_streams_are_documented(path: str, body: dict[str, Any], form: str, server: Server) -> None:
    answer = case_of(named("POST", path), body).call_and_validate(base_url=server.url, headers=KEY | {"Accept": form}, checks=CHECKS)
    assert answer.headers["content-type"][0].partition(";")[0] == form


@pytest.mark.parametrize("output_format", ["default", "text", "json", "stream-json"])
@pytest.mark.parametrize("path", ["/api/v1/prompt", *SEVERAL])
def test_output_format_chooses_the_form_of_every_native_answer(path: str, output_format: str, server: Server) -> None:
    body = SEVERAL.get(path, {"prompt": "hi"}) | {"output_format": output_format}
    answer = case_of(named("POST", path), body).call_and_validate(base_url=server.url, headers=KEY, checks=CHECKS)
    form = "application/x-ndjson" if output_format == "stream-json" else "application/json"
    assert answer.headers["content-type"][0].partition(";")[0] == form
    assert "x-clinvk-ignored" not in answer.headers


def test_a_part_may_choose_the_form_of_the_whole_answer(server: Server) -> None:
    body = {"tasks": [{"prompt": "hi"}, {"prompt": "hi", "output_format": "stream-json"}]}
    answer = case_of(named("POST", "/api/v1/parallel"), body).call_and_validate(base_url=server.url, headers=KEY, checks=CHECKS)
    assert answer.headers["content-type"][0].partition(";")[0] == "application/x-ndjson"
