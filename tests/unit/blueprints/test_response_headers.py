"""The headers of ours: named in one place, and readable for scripts of allowed pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.security.cors import EXPOSED
from blueprints.compat.agent_clients import TOOLS_HEADER
from blueprints.compat.context import SESSION_HEADER, WORKDIR_HEADER
from blueprints.openai.chat import request as chat_request
from blueprints.openai.chat.schemas import ChatSchema
from blueprints.openai.responses import request as response_request
from blueprints.openai.responses.schemas import CreateResponseSchema
from blueprints.response_headers import ignored_header
from services import depth
from tests.unit.app.parts import ask, shared_app

ROOT = Path(__file__).parents[3]
NAME = re.compile(r'"(X-Clinvk-\w+)"')
OF_REQUESTS = {depth.HEADER, SESSION_HEADER, WORKDIR_HEADER, TOOLS_HEADER}


def named(path: Path) -> set[str]:
    return set(NAME.findall(path.read_text()))


def test_every_response_header_of_ours_can_be_read_across_origins() -> None:
    sources = [path for folder in ("app", "blueprints", "services") for path in (ROOT / folder).rglob("*.py")]
    of_answers = set().union(*map(named, sources)) - OF_REQUESTS
    assert {"X-Clinvk-Backend", "X-Clinvk-Estimated", "X-Clinvk-Ignored"} <= of_answers
    exposed = ask(shared_app(), "/health", {"Origin": "http://localhost:3000"}).headers["Access-Control-Expose-Headers"]
    assert of_answers <= set(exposed.split(", ")) == set(EXPOSED)


def test_what_had_no_effect_is_named_once_and_in_order() -> None:
    assert ignored_header(["b", "a", "b"]) == {"X-Clinvk-Ignored": "b, a"}
    assert ignored_header([]) == {}


@pytest.mark.parametrize(("names", "schema"), [(chat_request.IGNORED, ChatSchema()), (response_request.IGNORED, CreateResponseSchema())])
def test_fields_that_the_document_calls_ignored_are_those_that_are_named(names: tuple[str, ...], schema: ChatSchema) -> None:
    said = [name for name, field in schema.fields.items() if "X-Clinvk-Ignored" in field.metadata.get("description", "")]
    assert said == list(names)
    assert "temperature" in names
