"""What a body must be: JSON by its type, its syntax and its schema; everything else is a 400 or 415 that says where."""

from __future__ import annotations

from functools import cache
from typing import Any

import flask
import flask_smorest
import marshmallow as ma
import pytest
from flask import Flask

from blueprints.validation import Blueprint, invalid_request
from tests.unit.app.parts import PREFIXES, ask, make_app


class CheckedStep(ma.Schema):
    backend = ma.fields.String(required=True)
    timeout = ma.fields.Float()


class CheckedBody(ma.Schema):
    prompt = ma.fields.String(required=True)
    model = ma.fields.String(validate=ma.validate.OneOf(["a", "b"]))
    steps = ma.fields.List(ma.fields.Nested(CheckedStep()))
    max_tokens = ma.fields.Integer(strict=True)
    metadata = ma.fields.Dict(keys=ma.fields.String(validate=ma.validate.Length(max=3)), values=ma.fields.String())


class CheckedCalls(ma.Schema):
    calls = ma.fields.List(ma.fields.Dict())


class CheckedOptional(ma.Schema):
    title = ma.fields.String()


@cache
def app_with(kind: type[Any] = Blueprint) -> Flask:
    app = make_app()
    api = app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
    for name, prefix in PREFIXES.items():
        blp = kind(f"checked_{name}", __name__, url_prefix=f"{prefix}/checked")
        for path, schema in (("/body", CheckedBody()), ("/optional", CheckedOptional())):
            blp.add_url_rule(path, path[1:], blp.arguments(schema)(lambda body: flask.jsonify(got=body)), methods=["POST"])
        blp.add_url_rule("/query", "query", blp.arguments(CheckedStep(), location="query")(lambda body: flask.jsonify(got=body)))
        api.register_blueprint(blp)
    return app


def post(data: bytes | str, path: str = "/api/v1/checked/body", content_type: str = "application/json", app: Flask | None = None) -> Any:
    return ask(app or app_with(), path, method="POST", data=data, content_type=content_type)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "application/vnd.api+json", "APPLICATION/JSON"]
)
def test_json_is_taken_under_every_name_it_has(content_type: str) -> None:
    assert post('{"prompt": "hi"}', content_type=content_type).get_json() == {"got": {"prompt": "hi"}}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "application/xml"]
)
@pytest.mark.parametrize("surface", PREFIXES)
def test_any_other_body_is_415(surface: str, content_type: str) -> None:
    answer = post('{"prompt": "hi"}', f"{PREFIXES[surface]}/checked/body", content_type)
    assert answer.status_code == 415
    assert "application/json" in answer.text
    code = {"native": "unsupported_media_type", "openai": "unsupported_content_type", "anthropic": "invalid_request_error"}[surface]
    assert code in answer.text


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"prompt": }', "line 1 column 12"),
        (b'{\n  "prompt": "hi",\n}', "line 2 column 17"),
        (b'{"prompt": "hi"', "line 1 column 16"),
        (b"prompt=hi", "line 1 column 1"),
        (b'{"prompt": "\xff"}', "line 1"),
        (b'{"prompt": NaN}', "line 1"),
        (b'{"prompt": "\\ud800"}', "line 1"),
    ],
)
@pytest.mark.parametrize("surface", PREFIXES)
def test_malformed_json_is_400_and_says_where(surface: str, body: bytes, place: str) -> None:
    answer = post(body, f"{PREFIXES[surface]}/checked/body")
    assert answer.status_code == 400
    assert place in answer.text


@pytest.mark.parametrize(
    ("body", "word"), [("[1]", "an array"), ('"hi"', "a string"), ("1", "a number"), ("true", "a boolean"), ("null", "null")]
)
def test_a_body_that_is_no_object_is_400(body: str, word: str) -> None:
    answer = post(body)
    assert answer.status_code == 400
    assert f"not {word}" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("body", ["", "  \n"])
def test_an_empty_body_is_400_where_something_is_needed(body: str) -> None:
    answer = post(body)
    assert answer.status_code == 400
    assert "empty" in answer.get_json()["error"]["message"]


def test_an_empty_body_is_fine_where_nothing_is_needed() -> None:
    assert ask(app_with(), "/api/v1/checked/optional", method="POST").get_json() == {"got": {}}


@pytest.mark.parametrize(
    ("body", "field", "issue"),
    [
        ({}, "prompt", "is required"),
        ({"prompt": 1}, "prompt", "not a valid string"),
        ({"prompt": "hi", "model": "c"}, "model", "must be one of: a, b"),
        ({"prompt": "hi", "steps": [{"backend": "x"}, {"backend": "x", "timeout": "soon"}]}, "steps[1].timeout", "not a valid number"),
        ({"prompt": "hi", "steps": {}}, "steps", "not a valid list"),
        ({"prompt": "hi", "max_tokens": 1.5}, "max_tokens", "not a valid integer"),
        ({"prompt": "hi", "modle": "a"}, "modle", "unknown field; did you mean 'model'?"),
        ({"prompt": "hi", "zzz": 1}, "zzz", "unknown field"),
        ({"prompt": "hi", "steps": [{"backend": "x", "timout": 1}]}, "steps[0].timout", "unknown field; did you mean 'timeout'?"),
    ],
)
def test_what_the_schema_refuses_is_400_and_names_the_field(body: dict[str, Any], field: str, issue: str) -> None:
    answer = ask(app_with(), "/api/v1/checked/body", method="POST", json=body)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_request")
    assert (error["details"]["field"], error["details"]["issue"]) == (field, issue)
    assert error["message"] == f"{field}: {issue}"


def test_all_that_is_wrong_is_told_at_once() -> None:
    details = ask(app_with(), "/api/v1/checked/body", method="POST", json={"model": "c", "x": 1}).get_json()["error"]["details"]
    assert set(details["errors"]) == {"prompt", "model", "x"}


@pytest.mark.parametrize(
    ("body", "field", "issue"),
    [
        ({"prompt": "hi", "tags": ["x"] * 33}, "tags", "longer than maximum length 32"),
        ({"prompt": "hi", "metadata": {f"k{n}": "" for n in range(65)}}, "metadata", "has 65 keys; the maximum is 64"),
        ({"prompt": "hi", "metadata": {"k" * 65: ""}}, f"metadata.{'k' * 64}", "a key has at most 64 characters"),
        ({"prompt": "hi", "metadata": {"k": "v" * 1025}}, "metadata.k", "longer than maximum length 1024"),
        ({"prompt": "hi", "metadata": {"k": 1}}, "metadata.k", "not a valid string"),
        ({"prompt": "hi", "metadata": []}, "metadata", "not a valid mapping type"),
        ({"prompt": "hi", "dry_run": "yes"}, "dry_run", "not a valid boolean"),
        ({"prompt": "hi", "timeout_secs": "1"}, "timeout_secs", "not a valid number"),
    ],
)
def test_the_limits_and_types_of_the_native_fields(body: dict[str, Any], field: str, issue: str) -> None:
    answer = ask(app_with(), "/api/v1/prompt", method="POST", json=body)
    details = answer.get_json()["error"]["details"]
    assert (answer.status_code, details["field"], details["issue"]) == (400, field, issue)


@pytest.mark.parametrize(
    ("path", "field", "count"),
    [
        ("/api/v1/parallel", "tasks", 1_001),
        ("/api/v1/chain", "steps", 1_001),
        ("/api/v1/compare", "targets", 1_001),
        ("/openai/v1/chat/completions", "messages", 10_001),
        ("/openai/v1/chat/completions", "tools", 1_001),
        ("/openai/v1/responses", "input", 10_001),
        ("/openai/v1/responses", "tools", 1_001),
        ("/anthropic/v1/messages", "messages", 10_001),
        ("/anthropic/v1/messages", "tools", 1_001),
        ("/anthropic/v1/messages/count_tokens", "messages", 10_001),
    ],
)
def test_a_list_that_is_too_long_is_named_before_its_elements(path: str, field: str, count: int) -> None:
    error = ask(app_with(), path, method="POST", json={field: [1] * count}).get_json()["error"]
    assert f"{field}: " in error["message"]
    assert f"{count - 1}" in error["message"]
    assert f"{field}[" not in error["message"]


def test_at_most_20_mistakes_are_reported_and_only_the_first_with_a_suggestion() -> None:
    body = {"prompt": "hi", **{f"modle{n}": 1 for n in range(90_000)}}
    details = ask(app_with(), "/api/v1/prompt", method="POST", json=body).get_json()["error"]["details"]
    assert len(details["errors"]) == 20
    assert [issues for issues in details["errors"].values() if "did you mean" in issues[0]] == [
        ["unknown field; did you mean 'model'?"]
    ] * 3


def test_a_long_name_is_cut_where_it_is_reported() -> None:
    answer = ask(app_with(), "/api/v1/prompt", method="POST", json={"prompt": "hi", "x" * 1_000_000: 1})
    assert (answer.status_code, answer.get_json()["error"]["details"]["field"]) == (400, "x" * 64)


@pytest.mark.parametrize(
    ("path", "field", "wrong"),
    [
        *(("/openai/v1/chat/completions", field, wrong) for field, wrong in {
            "temperature": "hot", "top_p": "1", "seed": 1.5, "logit_bias": [], "logprobs": 1, "top_logprobs": True, "stream": "yes",
            "store": "no", "service_tier": 1, "tool_choice": 1, "tools": [1], "modalities": "text", "verbosity": 2, "prediction": "x",
        }.items()),
        *(("/openai/v1/responses", field, wrong) for field, wrong in {
            "temperature": "hot", "top_p": [], "max_tool_calls": "1", "include": "x", "metadata": {"a": 1}, "tools": ["x"], "stream": 1,
            "service_tier": {}, "context_management": {}, "parallel_tool_calls": "true", "prompt": "x",
        }.items()),
    ],
)  # fmt: skip
def test_wrong_types_of_documented_fields_are_refused_with_their_param(path: str, field: str, wrong: Any) -> None:
    body = {"model": "claude", "messages": [{"role": "user", "content": "x"}], "input": "x", field: wrong}
    answer = ask(app_with(), path, method="POST", json=body)
    param = answer.get_json()["error"]["param"]
    assert (answer.status_code, param.partition(".")[0].partition("[")[0]) == (400, field)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("temperature", "hot"), ("top_p", "1"), ("top_k", 1.5), ("stream", "yes"), ("metadata", {"user_id": 1}), ("container", 1),
        ("context_management", []), ("speed", 1), ("tools", [1]), ("mcp_servers", ["x"]), ("stop_sequences", "x"),
    ],
)  # fmt: skip
def test_wrong_types_of_documented_fields_of_messages_are_refused(field: str, wrong: Any) -> None:
    body = {"model": "claude", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], field: wrong}
    answer = ask(app_with(), "/anthropic/v1/messages", method="POST", json=body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["message"].startswith(field)


def test_the_compatible_surfaces_name_the_field_too() -> None:
    app = app_with()
    openai = ask(app, "/openai/v1/checked/body", method="POST", json={"prompt": 1}).get_json()["error"]
    assert (openai["param"], openai["type"]) == ("prompt", "invalid_request_error")
    anthropic = ask(app, "/anthropic/v1/checked/body", method="POST", json={"prompt": 1}).get_json()["error"]
    assert (anthropic["type"], anthropic["message"]) == ("invalid_request_error", "prompt: not a valid string")


def test_queries_are_checked_the_same_way() -> None:
    answer = ask(app_with(), "/api/v1/checked/query?timeout=soon&beta=true")
    assert answer.status_code == 400
    assert set(answer.get_json()["error"]["details"]["errors"]) == {"backend", "timeout"}


def test_a_plain_flask_smorest_blueprint_answers_400_as_well() -> None:
    app = app_with(flask_smorest.Blueprint)
    assert ask(app, "/api/v1/checked/body", method="POST", json={"prompt": 1}).get_json()["error"]["details"]["field"] == "prompt"
    malformed = post("{", app=app)
    assert malformed.status_code == 400
    assert "line 1 column 2" in malformed.get_json()["error"]["message"]


def test_the_document_says_400_and_not_422() -> None:
    app = app_with()
    responses = ask(app, "/openapi.json").get_json()["paths"]["/api/v1/checked/body"]["post"]["responses"]
    assert "400" in responses
    assert "422" not in responses


def test_an_unknown_route_is_404_whatever_the_body_is() -> None:
    assert post("<x/>", "/api/v1/unknown", "text/xml").status_code == 404


@pytest.mark.parametrize(
    ("metadata", "field"), [({"a": 1}, "metadata.a"), ({"long": "x"}, "metadata.long"), ({"x": "y", "b": None}, "metadata.b")]
)
def test_an_entry_of_a_map_is_named_by_its_key_alone(metadata: dict[str, Any], field: str) -> None:
    answer = ask(app_with(), "/api/v1/checked/body", method="POST", json={"prompt": "hi", "metadata": metadata})
    details = answer.get_json()["error"]["details"]
    assert (answer.status_code, details["field"], [*details["errors"]]) == (400, field, [field])


def test_a_place_within_an_untyped_map_is_named_as_it_stands() -> None:
    """Of a list that msgspec reads, whose shape in the document is a map."""
    error = invalid_request({"calls": {0: {"id": ["expected str, got bool"]}}}, CheckedCalls())
    assert error.field == "calls[0].id"
