"""Every row of the error table, on every surface, and what may not be told."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from flask import Flask
from werkzeug.exceptions import ImATeapot

from app.api.errors import STATUS
from blueprints.current_request import request_id
from blueprints.openai.errors import TYPES as OPENAI_TYPES
from services import errors
from services.events import Failed, FailureKind
from tests.unit.app.parts import PREFIXES, ask, fail_with, make_app, shared_app

Error = Callable[[], BaseException]


def failed(kind: FailureKind) -> Error:
    return lambda: errors.RunFailed(Failed(kind, "the CLI said so", exit_code=1, retry_after_s=2.2 if kind == "rate_limited" else None))


RAISED: list[tuple[Error, str, int, str]] = [
    (lambda: errors.InvalidRequest("bad", field="prompt", issue="too long"), "invalid_request", 400, "invalid_request_error"),
    (lambda: errors.AuthenticationFailed("who?"), "authentication_error", 401, "authentication_error"),
    (lambda: errors.PermissionDenied("no"), "permission_denied", 403, "permission_error"),
    (lambda: errors.NotFound("no such session"), "not_found", 404, "not_found_error"),
    (lambda: errors.Conflict("busy"), "conflict", 409, "conflict_error"),
    (lambda: errors.RequestTooLarge("big"), "request_too_large", 413, "request_too_large"),
    (lambda: errors.RateLimited("slow down"), "rate_limit_exceeded", 429, "rate_limit_error"),
    (lambda: errors.ClinvkError("secret"), "internal_error", 500, "api_error"),
    (lambda: KeyError("secret"), "internal_error", 500, "api_error"),
    (lambda: errors.BackendUnavailable("not installed"), "backend_unavailable", 503, "api_error"),
    (lambda: errors.QueueFull("full"), "backend_unavailable", 503, "api_error"),
    (failed("rate_limited"), "rate_limit_exceeded", 429, "rate_limit_error"),
    (failed("overloaded"), "backend_overloaded", 503, "overloaded_error"),
    (failed("prompt_too_long"), "invalid_request", 400, "invalid_request_error"),
    (failed("invalid_prompt"), "invalid_request", 400, "invalid_request_error"),
    (failed("unknown_model"), "not_found", 404, "not_found_error"),
    (failed("unknown_session"), "not_found", 404, "not_found_error"),
    (failed("not_logged_in"), "backend_unavailable", 503, "api_error"),
    (failed("timeout"), "timeout", 504, "timeout_error"),
    (failed("cancelled"), "cancelled", 499, "api_error"),
    (failed("backend"), "backend_error", 502, "api_error"),
]


@cache
def app_that_fails() -> tuple[Flask, list[Error]]:
    """One application for all errors: its ``/fail`` routes raise what is last in the list."""
    app, raised = make_app(), []
    for prefix in PREFIXES.values():
        fail_with(app, f"{prefix}/fail", lambda: raised[-1]())
    return app, raised


def answer_to(error: Error, surface: str) -> Any:
    app, raised = app_that_fails()
    raised.append(error)
    return ask(app, f"{PREFIXES[surface]}/fail")


@pytest.mark.parametrize(("error", "code", "status", "_"), RAISED)
def test_native_error(error: Error, code: str, status: int, _: str) -> None:
    answer = answer_to(error, "native")
    body = answer.get_json()
    assert (answer.status_code, body["error"]["code"]) == (status, code)
    assert set(body) == {"error", "meta"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["meta"]["request_id"] == answer.headers["X-Request-ID"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["meta"]["timestamp"])


@pytest.mark.parametrize(("error", "code", "status", "_"), RAISED)
def test_openai_error_has_all_four_keys(error: Error, code: str, status: int, _: str) -> None:
    answer = answer_to(error, "openai")
    assert answer.status_code == status
    assert set(answer.get_json()) == {"error"}
    assert set(answer.get_json()["error"]) == {"message", "type", "param", "code"}
    assert answer.get_json()["error"]["type"] == OPENAI_TYPES.get(code, "invalid_request_error")
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(("error", "code", "status", "kind"), RAISED)
def test_anthropic_error(error: Error, code: str, status: int, kind: str) -> None:
    answer = answer_to(error, "anthropic")
    body = answer.get_json()
    assert answer.status_code == (529 if code == "backend_overloaded" else status)
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert set(body["error"]) == {"type", "message"}
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["X-Request-ID"]


def test_every_code_of_the_error_tree_has_a_status() -> None:
    codes = {kind.code for kind in subclasses(errors.ClinvkError)} | set(errors.RUN_FAILURE_CODES.values())
    assert codes <= set(STATUS)


def subclasses(kind: type[errors.ClinvkError]) -> set[type[errors.ClinvkError]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (lambda: errors.NotFound("no model", field="model"), {"param": "model", "code": "model_not_found"}),
        (failed("unknown_model"), {"param": "model", "code": "model_not_found"}),
        (failed("prompt_too_long"), {"param": None, "code": "context_length_exceeded"}),
        (lambda: errors.AuthenticationFailed("no"), {"param": None, "code": "invalid_api_key"}),
        (lambda: errors.InvalidRequest("no", field="messages[0].role"), {"param": "messages[0].role", "code": "invalid_request"}),
        (lambda: errors.RateLimited("no"), {"param": None, "code": "rate_limit_exceeded", "type": "requests"}),
    ],
)
def test_openai_codes_are_openais_own(error: Error, expected: dict[str, Any]) -> None:
    assert expected.items() <= answer_to(error, "openai").get_json()["error"].items()


@pytest.mark.parametrize("surface", PREFIXES)
@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing/here", 404), ("PUT", "/echo", 405), ("POST", "/nothing", 404)])
def test_unknown_routes_and_methods_answer_in_the_surfaces_form(surface: str, method: str, path: str, status: int) -> None:
    answer = ask(shared_app(), PREFIXES[surface] + path, method=method)
    body = answer.get_json()
    assert answer.status_code == status
    assert answer.headers["X-Request-ID"]
    match surface:
        case "native":
            assert body["error"]["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
        case "openai":
            assert body["error"]["code"] == {404: "unknown_url", 405: "method_not_supported"}[status]
        case "anthropic":
            assert body["error"]["type"] == {404: "not_found_error", 405: "invalid_request_error"}[status]


def test_405_names_the_methods_that_are_allowed() -> None:
    answer = ask(make_app(), "/api/v1/echo", method="PUT")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "POST", "DELETE", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("path", ["/", "/api", "/openai", "/anthropic", "/openaix/v1/models", "/v1x/models", "/modelsx"])
def test_a_prefix_is_a_whole_path_component(path: str) -> None:
    body = ask(shared_app(), path, method="DELETE").get_json()
    form = "openai" if path == "/openai" else "anthropic" if path == "/anthropic" else "native"
    assert {"native": "meta", "openai": "error", "anthropic": "request_id"}[form] in body


def test_an_http_error_without_a_code_of_its_own_keeps_its_status() -> None:
    answer = answer_to(ImATeapot, "native")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (418, "invalid_request")


def test_a_bug_gives_nothing_away_but_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    fail_with(app, "/api/v1/fail", lambda: RuntimeError("the password is xyzzy"))
    with caplog.at_level(logging.ERROR):
        answer = ask(app, "/api/v1/fail")
    assert "xyzzy" not in answer.text
    record = next(record for record in caplog.records if record.name == "clinvk.error")
    assert record.fields["request_id"] == answer.headers["X-Request-ID"]  # type: ignore[attr-defined]
    assert "xyzzy" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/api/v1/nowhere", 404)])
def test_flask_s_own_testing_idiom_works_without_the_wsgi_layer(path: str, status: int) -> None:
    app = make_app()
    with app.test_request_context(path):
        answer = app.full_dispatch_request()
        assert answer.status_code == status
        assert request_id().startswith("req_")
        assert status == 200 or answer.get_json()["meta"]["request_id"] == request_id()


def test_what_breaks_outside_of_flask_is_answered_too(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.after_request
    def break_everything(response: Any) -> Any:
        raise RuntimeError("xyzzy")

    answer = ask(app, "/anthropic/v1/echo")
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (500, "api_error")
    assert answer.headers["request-id"] == answer.get_json()["request_id"]
    assert "xyzzy" not in answer.text
    assert "xyzzy" in caplog.text


def test_details_that_have_no_json_form_do_not_break_the_answer() -> None:
    answer = answer_to(lambda: errors.Conflict("busy", by=object()), "native")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (500, "internal_error")


@pytest.mark.parametrize(("retry_after_s", "header"), [(None, None), (0.0, "1"), (0.2, "1"), (2.0, "2"), (2.1, "3")])
def test_retry_after_is_whole_seconds_and_never_too_early(retry_after_s: float | None, header: str | None) -> None:
    answer = answer_to(lambda: errors.QueueFull("full", retry_after_s=retry_after_s), "openai")
    assert answer.headers.get("Retry-After") == header


@pytest.mark.parametrize("surface", PREFIXES)
def test_what_failed_after_a_cli_was_started_is_not_retried(surface: str) -> None:
    answer = answer_to(failed("rate_limited"), surface)
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["Retry-After"] == "3"
    assert answer_to(lambda: RuntimeError(), surface).headers["x-should-retry"] == "false"
    assert "x-should-retry" not in answer_to(lambda: errors.QueueFull("full"), surface).headers


@pytest.mark.parametrize("surface", PREFIXES)
def test_401_says_how_to_send_a_key(surface: str) -> None:
    answer = ask(make_app("right"), PREFIXES[surface] + "/echo")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.text
