"""Health, the OpenAPI document, and documentation that needs no internet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest

from app.api.surfaces import SURFACES
from blueprints.meta.routes import to_duration
from services.errors import StoreUnavailable
from tests.unit.app.parts import ask, make_app, shared_app, stand_in_services


@pytest.mark.parametrize("path", ["/health", "/health/", "/api/v1/health"])
def test_health(path: str) -> None:
    answer = ask(shared_app(), path)
    body = answer.get_json()
    assert answer.status_code == 200
    assert body["status"] == "ok"
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", body["uptime"])
    assert isinstance(body["uptime_millis"], int)
    assert body["version"]
    assert body["backends"] == [{"name": "claude", "available": True, "version": "1.2.3", "reason": None, "is_required": True}]
    assert body["sessions"] == {"status": "ok", "count": 0}
    assert body["meta"]["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_health_is_degraded_when_a_backend_is_not_available() -> None:
    answer = ask(make_app(services=stand_in_services(claude=True, codex=False)), "/health")
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "degraded"
    reason = "'codex' was not found on PATH"
    assert answer.get_json()["backends"][1] == {
        "name": "codex",
        "available": False,
        "version": None,
        "reason": reason,
        "is_required": True,
    }


def test_health_counts_the_default_backend_and_those_that_the_configuration_names() -> None:
    services = stand_in_services(claude=True, codex=False)
    services.expected_backends = frozenset()
    health = ask(make_app(services=services), "/health").get_json()
    assert health["status"] == "ok"
    assert {backend["name"]: backend["is_required"] for backend in health["backends"]} == {"claude": True, "codex": False}
    services.default_backend = "codex"
    assert ask(make_app(services=services), "/health").get_json()["status"] == "degraded"


def test_health_is_degraded_while_the_spawner_is_being_replaced() -> None:
    services = stand_in_services()
    services.spawner.is_being_replaced, services.spawner.replacements = True, 3
    answer = ask(make_app(services=services), "/health")
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "degraded"
    assert answer.get_json()["spawner"] == {"status": "replacing", "replacements": 3}


def test_health_is_unhealthy_without_the_session_store_and_does_not_say_where_that_is() -> None:
    def fail() -> int:
        raise StoreUnavailable("the session store db.internal/clinvk cannot be used: no route")

    answer = ask(make_app(services=stand_in_services(fail)), "/health")
    assert answer.status_code == 503
    assert answer.get_json()["status"] == "unhealthy"
    assert answer.get_json()["sessions"] == {"status": "unavailable", "count": None}
    assert "db.internal" not in answer.text


@pytest.mark.parametrize("path", ["/health", "/api/v1/health"])
@pytest.mark.parametrize(("key", "is_whole"), [("", False), ("wrong", False), ("right", True)])
def test_where_keys_are_on_health_says_more_than_its_status_only_to_a_key(path: str, key: str, is_whole: bool) -> None:
    answer = ask(shared_app("right"), path, {"X-Api-Key": key} if key else {})
    assert answer.status_code == 200
    assert (set(answer.get_json()) == {"status"}) is not is_whole
    assert ("version" in answer.get_json()) is is_whole


def test_where_keys_are_on_health_still_fails_without_one() -> None:
    def fail() -> int:
        raise StoreUnavailable("the session store cannot be used")

    answer = ask(make_app("right", services=stand_in_services(fail)), "/health")
    assert (answer.status_code, answer.get_json()) == (503, {"status": "unhealthy"})


def test_health_answers_an_address_that_sent_too_many_wrong_keys() -> None:
    app = make_app("right", rate_limit_burst=1, rate_limit_rps=0.01)
    assert [ask(app, "/health", {"X-Api-Key": "wrong"}).status_code for _ in range(3)] == [200] * 3
    assert ask(app, "/api/v1/echo", {"X-Api-Key": "wrong"}).status_code == 429, "wrong keys count on public paths too"


@pytest.mark.parametrize(("key", "is_told"), [("", False), ("right", True)])
def test_where_keys_are_on_the_index_tells_the_version_only_to_a_key(key: str, is_told: bool) -> None:
    assert ("version" in ask(shared_app("right"), "/", {"X-Api-Key": key} if key else {}).get_json()) is is_told


@pytest.mark.parametrize("path", ["/metrics/", "/metrics//", "/metrics%2f", "/Metrics"])
@pytest.mark.parametrize("is_public", [True, False])
def test_metrics_have_one_path(path: str, is_public: bool) -> None:
    app = shared_app("right", metrics_enabled=True, metrics_public=is_public)
    assert ask(app, path).status_code == 401
    assert ask(app, path, {"X-Api-Key": "right"}).status_code == 404


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.9, "0s"), (59, "59s"), (60, "1m0s"), (151, "2m31s"), (3605, "1h0m5s"), (90_061, "1d1h1m1s"), (86_400, "1d0h0m0s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert to_duration(seconds) == text


def document() -> Any:
    return ask(shared_app(), "/openapi.json").get_json()


def operations(found: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in found["paths"].items():
        yield from ((path, method, operation) for method, operation in item.items() if method != "parameters")


def test_the_document_names_every_route_of_the_api() -> None:
    app = shared_app()
    pages = tuple(f"{page.name}." for surface in SURFACES for page in surface.pages)
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if not rule.endpoint.startswith((*pages, "echo_", "who_"))
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {(path, method) for path, method, _ in operations(document())}


def test_the_document_says_how_to_authenticate_and_where_one_need_not() -> None:
    found = document()
    assert found["openapi"].startswith("3.")
    assert found["info"]["title"] == "clinvk"
    assert set(found["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert found["security"] == [{"bearer": []}, {"apiKey": []}]
    assert found["paths"]["/health"]["get"]["security"] == []


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations(document())]
    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)


def test_the_documents_errors_are_the_native_ones() -> None:
    schema = document()["components"]["schemas"]["Error"]
    assert set(schema["properties"]) == {"error", "meta"}


def test_docs_load_nothing_from_elsewhere() -> None:
    app = shared_app("right")
    page = ask(app, "/docs")
    assert page.content_type == "text/html; charset=utf-8"
    assert "://" not in page.text
    references = re.findall(r'(?:src|href|data-url)="([^"]+)"', page.text)
    assert len(references) == 5
    for reference in references:
        assert ask(app, urljoin("/docs", reference)).status_code == 200, reference
    assert "://" not in ask(app, "/docs/start.js").text


def test_docs_run_no_script_that_is_not_a_file_of_ours() -> None:
    page = ask(shared_app(), "/docs")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert not re.search(r"<script>|\son\w+=", page.text)


@pytest.mark.parametrize("path", ["/docs/index.html", "/docs/..%2f..%2fsetup.py", "/docs/swagger-ui.css.map", "/docs/%2e%2e/__init__.py"])
def test_docs_serve_their_own_files_alone(path: str) -> None:
    assert ask(shared_app(), path).status_code == 404


def test_assets_may_be_cached() -> None:
    app = shared_app()
    first = ask(app, "/docs/swagger-ui.css")
    assert first.headers["Cache-Control"] == "public, max-age=86400"
    assert ask(app, "/docs/swagger-ui.css", {"If-None-Match": first.headers["ETag"]}).status_code == 304


def test_the_root_leads_on() -> None:
    app = shared_app("right")
    assert ask(app, "/").get_json()["docs"] == "/docs"
    assert ask(app, "/", {"Accept": "application/json"}).status_code == ask(app, "/", {"Accept": "*/*"}).status_code == 200


@pytest.mark.parametrize(
    "accept",
    [
        # Captured from Debian's Chromium 156; Chrome sends the same without image/jxl.
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/jxl,image/avif,image/webp,image/apng,*/*;q=0.8,"
        "application/signed-exchange;v=b3;q=0.7",
        # Firefox 92 and Firefox 66, from MDN's "List of default Accept values".
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/html,application/xhtml+xml",
    ],
    ids=["chromium", "firefox-92", "firefox-66", "short"],
)
def test_the_root_shows_a_browser_the_documentation(accept: str) -> None:
    browser = ask(shared_app("right"), "/", {"Accept": accept})
    assert (browser.status_code, browser.headers.get("Location")) == (302, "/docs")


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/openapi.json", "/docs/swagger-ui.css", "/api/v1/health", "/api/v1/backends"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_head_is_get_without_a_body_and_a_trailing_slash_does_not_redirect(path: str, slash: str) -> None:
    app = shared_app()
    got = ask(app, path + slash, method="HEAD")
    assert got.data == b""
    assert got.status_code < 300 or path == "/api/v1/backends"
    assert "Location" not in got.headers


@pytest.mark.parametrize("path", ["//api//v1/echo", "/api/v1//echo", "/api/v1/echo/", "/api/v1/echo//"])
def test_slashes_too_many_do_not_redirect(path: str) -> None:
    assert shared_app().test_client().post("/", environ_overrides={"PATH_INFO": path}, buffered=True).status_code == 200
