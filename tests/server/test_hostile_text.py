"""A caller's text where it meets an argv, a path, a header, a log line or a query: it stays text, or is refused with a 4xx."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.parts.clis import FakeCli
from tests.parts.processes import eventually
from tests.parts.server import Server

HOSTILE = {
    "flag": "--dangerously-skip-permissions",
    "flag with value": "--model=evil",
    "end of flags": "--",
    "parent folders": "../../../../etc/passwd",
    "absolute path": "/etc/passwd",
    "line feed": "a\nSet-Cookie: x=1",
    "line end": "a\r\n\r\nHTTP/1.1 200 OK",
    "NUL": "a\0b",
    "escape": "\x1b]0;owned\x07\x1b[2J",
    "quotes": "'; DROP TABLE sessions; --",
    "double quotes": '"}, {"level": "error',
    "shell": "$(touch made) `touch made`; touch made",
    "template": "{} {json} {file} {run_dir} {{previous}} %s %(x)s",
    "wildcards": "%_*?[a-z]",
    "separators": "\u2028\u2029\u0085\x0b\x0c",
    "bidi": "\u202egnp.exe",
    "surrogate": "\ud800",
    "long": "x" * 100_000,
    "empty": "",
}


@pytest.fixture
def one(fake_server: Server) -> Iterator[Server]:
    before = set(Path("/").iterdir())
    yield fake_server
    assert fake_server.is_up()
    assert not list(fake_server.workdir.iterdir()), "made in the workdir"
    assert set(Path("/").iterdir()) == before
    log = fake_server.log_path.read_bytes()
    assert b"Traceback" not in log
    for line in log.split(b"\n"):
        assert not set(line) & {0, 7, 8, 11, 12, 13, 27}, line
        if line.startswith(b'{"time"'):
            assert set(json.loads(line)) <= {*LOG_FIELDS}, line


LOG_FIELDS = (
    "time", "level", "logger", "message", "method", "path", "status", "duration_ms", "bytes", "client", "key", "request_id", "surface", "aborted",
    "error", "backend", "model", "outcome", "exit_code", "start", "queue_ms", "spawn_ms", "first_token_ms", "input_tokens", "output_tokens",
    "cost_usd", "denied_tools", "code", "reason", "run_id",
)  # fmt: skip


def says_why(answer: Any) -> bool:
    return answer.status < 500 and (answer.status == 200 or bool(answer.json["error"]["message"]))


FIELDS = ("model", "workdir", "title", "system_prompt", "backend", "approval_mode")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("name", HOSTILE)
def test_no_field_of_a_prompt_becomes_anything_else(one: Server, fake_cli: FakeCli, name: str, field: str) -> None:
    text = HOSTILE[name]
    body = {"backend": "claude", "prompt": "hello"} | {field: text}
    answer = one.client.post("/api/v1/prompt", json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    assert says_why(answer), answer.body
    for report in fake_cli.reports():
        assert not [word for word in report["argv"] if word == text and text.startswith("-")]
        assert report["prompt"] == "hello"
        assert report["cwd"] in (str(one.workdir), text)


@pytest.mark.parametrize("name", HOSTILE)
def test_extra_tags_and_metadata_are_flags_only_where_they_are_allowed(one: Server, fake_cli: FakeCli, name: str) -> None:
    text = HOSTILE[name]
    for more in ({"extra": [text]}, {"extra": ["--effort", text]}, {"tags": [text]}, {"metadata": {"a": text}}, {"metadata": {text: "a"}}):
        body = json.dumps({"backend": "claude", "prompt": "hello", **more}).encode()
        assert says_why(one.client.post("/api/v1/prompt", body, headers={"Content-Type": "application/json"})), more
    for report in fake_cli.reports():
        assert not [word for word in report["argv"] if word == text and text.startswith("-")]


@pytest.mark.parametrize("header", ["X-Request-ID", "X-Clinvk-Workdir", "X-Clinvk-Session", "X-Clinvk-Tools", "X-Api-Key", "User-Agent"])
@pytest.mark.parametrize("name", HOSTILE)
def test_no_header_reaches_another_one_or_the_log_as_more_than_text(one: Server, fake_cli: FakeCli, name: str, header: str) -> None:
    value = HOSTILE[name].encode("utf-8", "replace")[:4000]
    body = json.dumps({"model": "claude", "messages": [{"role": "user", "content": "hello"}]}).encode()
    head = b"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    sent = head + header.encode() + b": " + value + b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    answer = raw(one, sent)
    status = int(answer.split(b" ", 2)[1])
    assert status < 500, answer
    names = [line.partition(b":")[0].lower() for line in answer.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]]
    assert b"set-cookie" not in names


def raw(one: Server, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", int(one.url.rpartition(":")[2])), timeout=30) as client:
        client.sendall(sent)
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


PATHS = ["/api/v1/sessions/{}", "/api/v1/sessions/{}/turns", "/openai/v1/models/{}", "/anthropic/v1/models/{}", "/api/v1/sessions?q={}"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("surrogate", "empty", "long")])
def test_no_path_and_no_query_is_more_than_a_name(one: Server, name: str, path: str) -> None:
    answer = one.client.get(path.format(quote(HOSTILE[name], safe="")))
    assert says_why(answer), answer.body
    assert answer.status in (200, 400, 404)
    assert b"root:" not in answer.body


def test_the_access_log_names_the_key_and_never_shows_it(server: Any, fake_cli: FakeCli) -> None:
    one = server(
        {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"api_keys": ["ci=top-secret-key-0123"]}}
    )
    assert one.client.get("/api/v1/backends", headers={"X-Api-Key": "top-secret-key-0123"}).status == 200
    assert one.client.get("/api/v1/backends?key=top-secret-key-0123", headers={"X-Api-Key": "wrong-secret-key-0123"}).status == 401
    assert eventually(lambda: '"key": "ci"' in one.log())
    assert "secret-key" not in one.log()
