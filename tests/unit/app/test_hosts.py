"""The Host check and CORS: no web page drives the agent."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from app.config.schema import ServerSettings
from app.security.cors import OriginRules
from app.security.hosts import HostRules, is_loopback, to_host_name
from services.errors import PermissionDenied
from tests.unit.app.parts import PREFIXES, ask, shared_app

REBOUND = ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1:8080", "0.0.0.0:8080"]
LOOPBACK = ["localhost", "LOCALHOST:8080", "app.localhost", "127.0.0.1:8080", "127.8.9.1", "[::1]:8080", "[::1]", "localhost."]


@pytest.mark.parametrize("host", REBOUND)
@pytest.mark.parametrize("path", ["/health", "/api/v1/echo", "/docs"])
def test_on_loopback_a_foreign_host_is_refused(host: str, path: str) -> None:
    answer = ask(shared_app(), path, {"Host": host})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "permission_denied")
    assert "server.allowed_hosts" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize("host", ["", "a b", "user@localhost", "localhost:80:80", "[::1", "/", "localhost, evil.example"])
def test_a_host_that_is_none_is_refused_or_absent(host: str) -> None:
    assert ask(shared_app(), "/health", {"Host": host}).status_code == (200 if not host else 403)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example.", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0", "[::]", "[::]:80", "[::1%lo]", "localhost:", "xn--localhost",
        "127.0.0.1%20", "evil.example#.localhost", "evil.example?.localhost", "evil.example\\.localhost", "localhost..", ".localhost",
        "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    ],
)  # fmt: skip
def test_no_spelling_of_a_foreign_host_passes_for_loopback(host: str) -> None:
    assert ask(shared_app(), "/api/v1/echo", {"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("peer", ["10.0.0.5", "192.0.2.1", "::2", "fe80::1", "::ffff:10.0.0.5"])
def test_who_is_not_on_this_machine_is_refused_where_no_key_is_asked_for(peer: str) -> None:
    """`flask run --host 0.0.0.0`: the server does not know that it is open to its network."""
    answer = ask(shared_app(), "/api/v1/echo", {"Host": "localhost"}, environ_base={"REMOTE_ADDR": peer})
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "permission_denied")
    assert "CLINVK_API_KEYS" in answer.get_json()["error"]["message"]
    with_key = ask(shared_app("right"), "/api/v1/echo", {"Host": "localhost", "X-Api-Key": "right"}, environ_base={"REMOTE_ADDR": peer})
    assert with_key.status_code == 200
    opened = ask(shared_app(host="0.0.0.0"), "/api/v1/echo", environ_base={"REMOTE_ADDR": peer})  # serve --no-auth
    assert opened.status_code == 200


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_who_is_on_this_machine_needs_no_key_where_there_is_none(peer: str) -> None:
    assert ask(shared_app(), "/api/v1/echo", environ_base={"REMOTE_ADDR": peer}).status_code == 200


def test_a_trusted_proxy_on_this_machine_may_speak_for_others() -> None:
    app = shared_app(trusted_proxies=["127.0.0.1"])
    assert ask(app, "/api/v1/echo", {"X-Forwarded-For": "192.0.2.1"}).status_code == 200


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("bind", ["127.0.0.1", "localhost", "::1"])
def test_on_loopback_its_own_names_are_served(host: str, bind: str) -> None:
    assert ask(shared_app(host=bind), "/health", {"Host": host}).status_code == 200


def test_no_host_header_is_served() -> None:
    answer = shared_app().test_client().get("/health", environ_overrides={"HTTP_HOST": ""}, buffered=True)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("allowed", "host", "is_served"),
    [
        ("ai.example.com", "ai.example.com", True),
        ("ai.example.com", "AI.Example.com:443", True),
        ("ai.example.com:8080", "ai.example.com", True),
        ("ai.example.com", "x.ai.example.com", False),
        ("*.example.com", "ai.example.com", True),
        (".example.com", "ai.example.com:1", True),
        ("*.example.com", "evilexample.com", False),
        ("*", "anything.example", True),
        ("ai.example.com", "localhost", True),
    ],
)
@pytest.mark.parametrize("bind", ["127.0.0.1", "0.0.0.0"])
def test_allowed_hosts_add_names(bind: str, allowed: str, host: str, is_served: bool) -> None:
    rules = HostRules(ServerSettings(host=bind, allowed_hosts=[allowed]))
    with contextlib.nullcontext() if is_served else pytest.raises(PermissionDenied):
        rules.check(host)


def test_beyond_loopback_any_host_is_served_until_names_are_listed() -> None:
    assert ask(shared_app(host="0.0.0.0"), "/health", {"Host": "evil.example"}).status_code == 200
    listed = shared_app(host="0.0.0.0", allowed_hosts=["ai.example.com"])
    assert ask(listed, "/health", {"Host": "evil.example"}).status_code == 403
    assert ask(listed, "/health", {"Host": "10.0.0.7:8080"}).status_code == 200  # health probes ask by address


@pytest.mark.parametrize(
    ("host", "name"), [("A.b:1", "a.b"), ("[::1]:8080", "::1"), ("a", "a"), ("a:b", None), ("::1", None), ("", None), ("a:1:2", None)]
)
def test_host_names(host: str, name: str | None) -> None:
    assert to_host_name(host) == name


@pytest.mark.parametrize("name", ["127.0.0.1", "127.255.0.9", "::1", "[::1]", "localhost", "x.localhost", "::ffff:127.0.0.1"])
def test_loopback_names(name: str) -> None:
    assert is_loopback(name)


@pytest.mark.parametrize("name", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "example.com", ""])
def test_other_names(name: str) -> None:
    assert not is_loopback(name)


def preflight(app: Any, origin: str, path: str = "/api/v1/echo", **headers: str) -> Any:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return ask(app, path, {"Origin": origin, **asks, **headers}, method="OPTIONS")


LOCAL_PAGES = ["http://localhost", "http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8080", "HTTP://LOCALHOST:1"]
FOREIGN_PAGES = [
    "https://evil.example", "http://localhost.evil.example", "https://localhost", "http://localhost:3000.evil.example", "null",
    "http://localhost.", "http://127.0.0.1:5173@evil.example", "http://[::1", "http://localhost:8080:80", "ws://localhost", "http://127.0.0.2",
    "http://localhost%00.evil", "http://localhost:8080, https://evil.example", "https://evil.example http://localhost", "",
    "http://localhost:3000/path", "http://127.0.0.1.evil.example", "http://localhost:", "file://", "http://localhost:3000\nx",
]  # fmt: skip


@pytest.mark.parametrize("origin", LOCAL_PAGES)
def test_a_preflight_of_an_allowed_page_needs_no_key(origin: str) -> None:
    answer = preflight(shared_app("right"), origin)
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert answer.headers["Access-Control-Max-Age"] == "300"
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("origin", [origin for origin in FOREIGN_PAGES if "\n" not in origin])
def test_a_preflight_of_any_other_page_is_refused(origin: str) -> None:
    answer = preflight(shared_app(), origin)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_preflight_to_nowhere_is_answered_too() -> None:
    assert preflight(shared_app("right"), "http://localhost:3000", "/nothing").status_code == 204


@pytest.mark.parametrize("surface", PREFIXES)
@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize("origin", [origin for origin in FOREIGN_PAGES if "\n" not in origin])
def test_no_foreign_page_changes_anything(surface: str, method: str, origin: str) -> None:
    answer = ask(shared_app(), PREFIXES[surface] + "/echo", {"Origin": origin, "Host": "localhost:8080"}, method=method)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_right_key_does_not_open_the_door_to_a_foreign_page() -> None:
    headers = {"Origin": "https://evil.example", "X-Api-Key": "right"}
    assert ask(shared_app("right"), "/api/v1/echo", headers, method="POST").status_code == 403


def test_a_foreign_page_may_send_a_read_but_not_see_its_answer() -> None:
    answer = ask(shared_app(), "/api/v1/echo", {"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_that_hides_its_origin_is_refused(site: str) -> None:
    assert ask(shared_app(), "/api/v1/echo", {"Sec-Fetch-Site": site}, method="POST").status_code == 403


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Mode": "cors"}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}])
def test_what_is_no_foreign_page_is_served(headers: dict[str, str]) -> None:
    assert ask(shared_app(), "/api/v1/echo", headers, method="POST").status_code == 200


def test_an_allowed_page_reads_answers_and_errors() -> None:
    app = shared_app("right")
    for headers, status in (({"X-Api-Key": "right"}, 200), ({}, 401)):
        answer = ask(app, "/api/v1/echo", {"Origin": "http://localhost:3000", **headers}, method="POST")
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]


def test_the_servers_own_page_is_served_under_every_name_it_has() -> None:
    app = shared_app("right", host="0.0.0.0")
    headers = {"Origin": "https://ai.example.com", "X-Api-Key": "right"}
    assert ask(app, "/api/v1/echo", {**headers, "Host": "ai.example.com"}, method="POST").status_code == 200
    assert ask(app, "/api/v1/echo", {**headers, "Host": "other.example"}, method="POST").status_code == 403


@pytest.mark.parametrize(("host", "status"), [("evil.example:8080", 403), ("10.0.0.7:8080", 200), ("ai.example.com:8080", 200)])
def test_without_keys_only_a_known_name_makes_a_page_the_servers_own(host: str, status: int) -> None:
    """DNS rebinding of a server that is open to its network: the page's name is the server's address."""
    app = shared_app(host="0.0.0.0", allowed_hosts=["ai.example.com", "*"])
    assert ask(app, "/api/v1/echo", {"Origin": f"http://{host}", "Host": host}, method="POST").status_code == status


@pytest.mark.parametrize(
    ("configured", "origin", "is_allowed"),
    [
        ("https://app.example", "https://app.example", True),
        ("https://app.example", "https://app.example:8443", True),
        ("https://app.example:8443", "https://app.example:8443", True),
        ("https://app.example:8443", "https://app.example", False),
        ("https://app.example:8443", "https://app.example:84430", False),
        ("https://app.example:443", "https://app.example", True),
        ("https://app.example", "http://app.example", False),
        ("https://a.b", "https://aXb", False),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("http://[::1]", "http://[::1]:9", True),
    ],
)
def test_a_configured_origin_means_any_port_where_it_names_none(configured: str, origin: str, is_allowed: bool) -> None:
    assert OriginRules(ServerSettings(cors_allowed_origins=[configured])).allows(origin) is is_allowed


def test_credentials_only_for_listed_origins() -> None:
    listed = shared_app(cors_allowed_origins=["https://app.example"], cors_allow_credentials=True)
    assert preflight(listed, "https://app.example").headers["Access-Control-Allow-Credentials"] == "true"
    everyone = preflight(shared_app(cors_allowed_origins=["*"], cors_allow_credentials=True), "https://evil.example")
    assert everyone.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in everyone.headers


def test_an_answer_to_no_page_has_no_cors_headers() -> None:
    assert not [name for name, _ in ask(shared_app(), "/health").headers if name.startswith("Access-Control")]
