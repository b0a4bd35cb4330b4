"""Behind the real nginx, with our own configuration of it, the server keeps its promises."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.nginx import CLIENT_ADDRESS, NAME, Nginx, free_port
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.native import events
from tests.parts.processes import eventually
from tests.parts.server import Server

CHAT = "/openai/v1/chat/completions"
MESSAGES = "/anthropic/v1/messages"
BODY_LIMIT = 1 << 20
KEY = {"Authorization": "Bearer a-key-of-the-tests-0123456789"}
STUCK = do(["ignore", 15], ["spawn", True, True], ["say", "hello"], ["hang"])


@pytest.fixture(scope="module")
def server(scripted_cli: FakeCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {
        "trusted_proxies": ["127.0.0.1"],
        "allowed_hosts": [NAME],
        "api_keys": [f"tests={KEY['Authorization'].removeprefix('Bearer ')}"],
        "max_request_body_bytes": BODY_LIMIT,
        "log_format": "json",
    }
    config = {"default_backend": "claude", "backends": {"claude": scripted_cli.backend()}, "server": settings}
    one = Server(tmp_path_factory.mktemp("behind-nginx"), config)
    yield one
    one.stop()


StartNginx = Callable[..., Nginx]


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[StartNginx]:
    started: list[Nginx] = []

    def start(upstream: str, changes: Mapping[str, str] | None = None) -> Nginx:
        one = Nginx(tmp_path, upstream, changes)
        one.client.headers = KEY
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def nginx(server: Server, start_nginx: StartNginx, fake_cli: FakeCli) -> Iterator[Nginx]:
    yield start_nginx(address_of(server))
    assert eventually(lambda: not server.runs())


def address_of(server: Server) -> str:
    return server.url.removeprefix("http://")


def access_log(server: Server, request_id: str) -> dict[str, Any]:
    """The line of one request, once it is there."""

    def lines() -> list[dict[str, Any]]:
        told = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
        return [line for line in told if line.get("request_id") == request_id and "status" in line]

    assert eventually(lines)
    (line,) = lines()
    return line


def test_nginx_accepts_the_configuration_without_a_warning(tmp_path: Path) -> None:
    said = Nginx(tmp_path, "127.0.0.1:8080").test()
    assert "test is successful" in said
    assert "[warn]" not in said


def test_whole_answers_pass(nginx: Nginx) -> None:
    assert nginx.client.prompt("claude", do(["say", "hello"])).json["output"] == "hello"
    body = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": do(["say", "hello"])}]}
    assert nginx.client.post(CHAT, body).json["choices"][0]["message"]["content"] == "hello"
    assert nginx.client.post(MESSAGES, body).json["content"][0]["text"] == "hello"


@pytest.mark.parametrize("path", ["/api/v1/prompt", CHAT, "/openai/v1/responses", MESSAGES])
def test_each_token_arrives_before_the_next_one_is_there(nginx: Nginx, tmp_path: Path, path: str) -> None:
    """The CLI says its second word when the first one has arrived here, and not before."""
    has_arrived = tmp_path / "arrived"
    prompt = do(["say", "first-word"], ["wait_for", str(has_arrived)], ["say", " second-word"])
    message = {"messages": [{"role": "user", "content": prompt}]}
    body = {
        "/api/v1/prompt": {"prompt": prompt, "output_format": "stream-json"},
        "/openai/v1/responses": {"model": "claude", "input": prompt, "stream": True},
    }.get(path, {"model": "claude", "max_tokens": 100, "stream": True, **message})
    with nginx.client.open("POST", path, body) as stream:
        seen = b""
        while b"first-word" not in seen:
            line = stream.response.readline()
            assert line, seen
            seen += line
        assert b"second-word" not in seen
        has_arrived.touch()
        assert b"second-word" in stream.response.read()


@pytest.mark.parametrize("abruptly", [False, True], ids=["fin", "rst"])
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_client_lost_behind_nginx_stops_the_cli_and_all_below_it(
    nginx: Nginx, server: Server, fake_cli: FakeCli, streams: bool, abruptly: bool
) -> None:
    body = {"prompt": STUCK, "output_format": "stream-json" if streams else "default"}
    with nginx.client.send("POST", "/api/v1/prompt", body) as sent:
        fake_cli.children()
        sent.hang_up(abruptly=abruptly)
    assert eventually(lambda: not server.runs())


def test_access_log_has_the_clients_address_and_not_its_claim(nginx: Nginx, server: Server) -> None:
    answer = nginx.client.post("/api/v1/prompt", {"prompt": do(["say", "hi"])}, headers={"X-Forwarded-For": "203.0.113.9, 127.0.0.1"})
    assert answer.status == 200
    assert access_log(server, answer.headers["X-Request-ID"])["client"] == CLIENT_ADDRESS


def test_body_over_the_servers_limit_is_refused_in_the_words_of_its_surface(nginx: Nginx) -> None:
    body = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": "x" * (4 * BODY_LIMIT)}]}
    answer = nginx.client.post(MESSAGES, body)
    assert (answer.status, answer.json["error"]["type"]) == (413, "request_too_large")
    assert "server.max_request_body_bytes" in answer.json["error"]["message"]


@pytest.mark.parametrize("path", ["/api/v1/prompt", CHAT, MESSAGES])
def test_body_over_nginx_own_limit_is_refused_in_words_for_every_surface(nginx: Nginx, path: str) -> None:
    with nginx.client.open("POST", path, headers={"Content-Length": str(12 << 20), "Content-Type": "application/json"}) as stream:
        error = json.loads(stream.response.read())["error"]
    assert (stream.status, error["code"], error["type"]) == (413, "request_too_large", "request_too_large")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/v1/nothing", None, 404),
        ("GET", "/api/v1/prompt", None, 405),
        ("POST", "/api/v1/prompt", b"{", 400),
        ("POST", CHAT, {"model": "claude", "messages": []}, 400),
        ("POST", MESSAGES, {"model": "claude", "max_tokens": 1, "messages": [{"role": "user", "content": do(["fail", "x", 529])}]}, 529),
        ("POST", CHAT, {"model": "claude", "messages": [{"role": "user", "content": do(["exit", 3])}]}, 502),
    ],
)
def test_errors_of_the_server_pass_as_they_are(nginx: Nginx, server: Server, method: str, path: str, body: Any, status: int) -> None:
    through, direct = (client.ask(method, path, body, KEY) for client in (nginx.client, server.client))
    assert through.status == direct.status == status
    assert through.headers["x-should-retry"] == direct.headers["x-should-retry"]
    assert without_moment(through.json) == without_moment(direct.json)


def without_moment(error: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in error.items() if key not in ("meta", "request_id")}


def test_missing_key_is_told_through_nginx(nginx: Nginx) -> None:
    nginx.client.headers = {}
    answer = nginx.client.post("/api/v1/prompt", {"prompt": "hi"})
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(("path", "status"), [("/", 301), ("/api/v1/prompt", 403), ("/health", 403)])
def test_nothing_but_the_way_to_tls_is_answered_in_the_clear(nginx: Nginx, path: str, status: int) -> None:
    answer = Client(f"http://127.0.0.1:{nginx.plain_port}", {"Host": NAME}).get(path)
    assert answer.status == status


def test_server_that_is_not_there_is_told_as_json(start_nginx: StartNginx) -> None:
    answer = start_nginx(f"127.0.0.1:{free_port()}").client.post(CHAT, {"model": "claude", "messages": []})
    assert (answer.status, answer.json["error"]["code"]) == (502, "backend_unavailable")


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/metrics//", "/metrics%2f", "//metrics", "/x/../metrics", "/%6detrics"])
def test_metrics_are_not_for_the_world(nginx: Nginx, path: str) -> None:
    assert nginx.client.get(path).status == 403


@pytest.mark.parametrize(("path", "status"), [("/metrics", 403), (CHAT, 502)])
def test_errors_of_nginx_demand_tls_and_tell_no_version(start_nginx: StartNginx, path: str, status: int) -> None:
    answer = start_nginx(f"127.0.0.1:{free_port()}").client.post(path, {"model": "claude"})
    assert answer.status == status
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["Server"] == "nginx"


def test_plain_port_tells_no_version(nginx: Nginx) -> None:
    assert Client(f"http://127.0.0.1:{nginx.plain_port}", {"Host": NAME}).get("/health").headers["Server"] == "nginx"


def test_stream_of_a_server_that_stops_has_its_honest_end(
    start_nginx: StartNginx, fake_cli: FakeCli, server_factory: Callable[..., Server]
) -> None:
    one = server_factory()
    with start_nginx(address_of(one)).client.prompt_stream("claude", STUCK) as stream:
        lines = stream.lines()
        next(lines)
        one.process.terminate()
        last = events(lines)[-1]
    assert (last["type"], last["content"]["code"]) == ("error", "backend_unavailable")


@pytest.fixture
def server_factory(scripted_cli: FakeCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start() -> Server:
        settings = {"trusted_proxies": ["127.0.0.1"], "allowed_hosts": [NAME], "shutdown_grace_secs": 1}
        config = {"backends": {"claude": scripted_cli.backend()}, "server": settings}
        started.append(Server(tmp_path_factory.mktemp("stopping"), config))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_connection_to_a_lost_stream_is_not_given_to_the_next_client(nginx: Nginx, server: Server, fake_cli: FakeCli) -> None:
    """nginx keeps connections to the server; one with half an answer in it must not be used again."""
    for _ in range(5):
        with nginx.client.prompt_stream("claude", do(["say", "of another"], ["hang"])) as stream:
            next(stream.lines())
        assert nginx.client.prompt("claude", do(["say", "mine"])).json["output"] == "mine"


def test_answers_on_one_connection_follow_each_other(nginx: Nginx) -> None:
    with nginx.client.send("GET", "/health") as sent:
        assert sent.connection.getresponse().read()
        for prompt in (do(["say", "one"]), do(["exit", 3]), do(["say", "two"])):
            sent.connection.request("POST", "/api/v1/prompt", json.dumps({"prompt": prompt}), {**KEY, "Content-Type": "application/json"})
            response: http.client.HTTPResponse = sent.connection.getresponse()
            assert (response.status, bool(response.read())) == (200, True)
