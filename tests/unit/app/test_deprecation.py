"""A route that is marked as deprecated says so in every answer and in the documentation. On a route made for it: no real one is."""

from __future__ import annotations

from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import marshmallow as ma
import pytest
from flask import Flask

from blueprints.deprecation import Deprecation, deprecated
from blueprints.validation import Blueprint
from services.errors import NotFound
from tests.unit.app.parts import ask, make_app

SINCE, SUNSET = date(2027, 1, 1), date(2027, 7, 1)
METHODS = {"get", "post", "delete"}
NOTICE = "https://example.com/changes#old"


class QuestionSchema(ma.Schema):
    word = ma.fields.String(required=True)


@pytest.fixture
def app() -> Flask:
    blp = Blueprint("old", __name__, url_prefix="/api/v0")

    @blp.post("/word")
    @blp.arguments(QuestionSchema)
    @blp.response(200)
    @deprecated(since=SINCE, sunset=SUNSET, notice=NOTICE)
    def give_word(question: dict[str, str]) -> Any:
        """Say it again."""
        if question["word"] == "none":
            raise NotFound("there is no such word")
        return question, 200, {"Link": '</api/v1>; rel="successor-version"'}

    @blp.get("/soon")
    @blp.response(200)
    @deprecated(since=SINCE)
    def get_soon() -> Any:
        return {}

    one = make_app("a-key-0123456789")
    one.extensions["flask-smorest"]["apis"][""]["ext_obj"].register_blueprint(blp)
    return one


def ask_old(app: Flask, word: Any, key: str = "a-key-0123456789") -> Any:
    return ask(app, "/api/v0/word", {"Authorization": f"Bearer {key}"}, method="POST", json={"word": word})


@pytest.mark.parametrize(
    ("word", "key", "status"),
    [("x", "a-key-0123456789", 200), ("none", "a-key-0123456789", 404), (7, "a-key-0123456789", 400), ("x", "wrong", 401)],
)
def test_every_answer_of_a_deprecated_route_says_so(app: Flask, word: Any, key: str, status: int) -> None:
    answer = ask_old(app, word, key)
    assert answer.status_code == status
    assert answer.headers["Deprecation"] == f"@{int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())}"
    assert parsedate_to_datetime(answer.headers["Sunset"]) == datetime(2027, 7, 1, tzinfo=UTC)
    links = answer.headers.getlist("Link")
    assert f'<{NOTICE}>; rel="deprecation"; type="text/html"' in links
    assert f'<{NOTICE}>; rel="sunset"; type="text/html"' in links


def test_links_of_the_answer_itself_stay(app: Flask) -> None:
    assert '</api/v1>; rel="successor-version"' in ask_old(app, "x").headers.getlist("Link")


def test_sunset_and_notice_may_be_open(app: Flask) -> None:
    headers = ask(app, "/api/v0/soon", {"X-Api-Key": "a-key-0123456789"}).headers
    assert headers["Deprecation"] == "@1798761600"
    assert not {"Sunset", "Link"} & set(headers.keys())


def test_openapi_marks_the_route_and_no_other(app: Flask) -> None:
    paths = ask(app, "/openapi.json").json["paths"]
    marked = {
        (path, method) for path, methods in paths.items() for method, one in methods.items() if method in METHODS and "deprecated" in one
    }
    assert marked == {("/api/v0/word", "post"), ("/api/v0/soon", "get")}
    assert paths["/api/v0/word"]["post"]["summary"] == "Say it again."


def test_other_routes_say_nothing(app: Flask) -> None:
    assert not {"Deprecation", "Sunset", "Link"} & set(ask(app, "/health").headers.keys())


def test_sunset_before_the_deprecation_is_refused() -> None:
    with pytest.raises(ValueError, match="before"):
        Deprecation(since=SUNSET, sunset=SINCE)
