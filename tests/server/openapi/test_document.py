"""The document itself: valid OpenAPI, with patterns that every language reads alike, and right behind a proxy's prefix."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from marshmallow import ValidationError
from openapi_spec_validator import validate

from blueprints.native.compose_schemas import LABEL
from tests.parts.programs import require_program
from tests.unit.app.parts import ask, make_app, shared_app

COMPILE = "for (const p of JSON.parse(process.argv[1])) new RegExp(p, 'u')"
MATCH = "const [p, texts] = JSON.parse(process.argv[1]); console.log(JSON.stringify(texts.map(t => new RegExp(p, 'u').test(t))))"


def document(**headers: str) -> Any:
    return ask(shared_app(), "/openapi.json", headers).get_json()


def patterns(found: Any) -> Iterator[str]:
    if isinstance(found, dict):
        if isinstance(found.get("pattern"), str):
            yield found["pattern"]
        for inner in found.values():
            yield from patterns(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from patterns(inner)


def node(program: str, data: Any) -> str:
    command = [require_program("node", "nodejs"), "-e", program, json.dumps(data)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_it_is_valid() -> None:
    validate(document())


def test_patterns_are_those_of_ecma_262() -> None:
    found = [*patterns(document())]
    assert found
    node(COMPILE, found)
    assert all(pattern.startswith("^") and pattern.endswith("$") for pattern in found)  # else a part of the value would do


@pytest.mark.parametrize("schema", ["Task", "Step"])
def test_a_client_that_validates_takes_the_names_that_the_server_takes(schema: str) -> None:
    pattern = document()["components"]["schemas"][schema]["properties"]["name"]["pattern"]
    names = ["a", "first step", "schön", "\U0001f600" * 64, "x" * 64, "x" * 65, "", "a{b", "a}b", "a\n", "\0", "Z"]
    assert json.loads(node(MATCH, [pattern, names])) == [is_taken(name) for name in names]


def is_taken(name: str) -> bool:
    try:
        LABEL(name)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("peer", "prefix", "url"),
    [
        ("127.0.0.1", None, "/"),
        ("127.0.0.1", "/clinvk", "/clinvk"),
        ("127.0.0.1", "/clinvk/", "/clinvk"),
        ("127.0.0.1", "/outer, /inner/more", "/inner/more"),
        ("127.0.0.1", "//evil.example", "/"),
        ("127.0.0.1", "/a//b", "/"),
        ("127.0.0.1", "https://evil.example", "/"),
        ("127.0.0.1", "", "/"),
        ("127.0.0.2", "/clinvk", "/"),
    ],
)
def test_the_servers_path_is_the_prefix_of_a_trusted_proxy(peer: str, prefix: str | None, url: str) -> None:
    app = shared_app(trusted_proxies=["127.0.0.1"])
    headers = {"X-Forwarded-Prefix": prefix} if prefix is not None else {}
    found = ask(app, "/openapi.json", headers, environ_base={"REMOTE_ADDR": peer}).get_json()
    assert found["servers"] == [{"url": url}]
    assert ask(app, "/", headers, environ_base={"REMOTE_ADDR": peer}).get_json()["openapi"] == f"{url.rstrip('/')}/openapi.json"


def test_the_servers_path_is_where_the_application_is_mounted() -> None:
    app = make_app()
    for mount, url in (("/below", "/below"), ("", "/")):
        found = ask(app, "/openapi.json", environ_overrides={"SCRIPT_NAME": mount}).get_json()
        assert found["servers"] == [{"url": url}]
        validate(found)
