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
from tests.app.parts import PREFIXES, ask, make_app


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
        ({}, "prompt", "missing data for required field"),
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
