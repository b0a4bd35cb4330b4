"""The log of a real server: one request's lines have its id, no line says too much, and no text steers the log."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from app.observability.logs import TextFormatter
from tests.conftest import ServerFactory
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.processes import eventually
from tests.parts.server import Server

HOSTILE = 'hush\n{"time": "forged"}\r\x1b[31m\x9b2J\u2028 status=200 "'
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def lines(one: Server, logger: str = "") -> list[dict[str, Any]]:
    """The JSON lines of the log so far; of one logger."""
    found = [json.loads(line) for line in one.log().splitlines() if line.startswith("{")]
    return [line for line in found if line["logger"] == logger] if logger else found


def access_line(one: Server, request_id: str) -> dict[str, Any]:
    """It is written when the answer is out."""
    found: list[dict[str, Any]] = []
    assert eventually(lambda: found.extend(line for line in lines(one, "clinvk.access") if line["request_id"] == request_id) or found)
    return found[0]


def start(server: ServerFactory, cli: FakeCli, *args: str, **more: Any) -> Server:
    backend = cli.backend(*args, **{"warm": {"max": 0}} | more)
    settings = {
        "log_format": "json",
        "log_level": "debug",
        "api_keys": ["ci=hush-key-0123456789"],
        "max_queued_runs": 0,
        "max_concurrent_runs": 2,
    }
    one = server({"default_backend": "claude", "backends": {"claude": backend}, "server": settings})
    one.client = Client(one.url, {"X-Api-Key": "hush-key-0123456789"})
    return one


def test_a_run_has_one_line_with_everything_but_its_words(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    answer = one.client.post("/api/v1/prompt", {"backend": "claude", "prompt": "hush-prompt"}, headers={"X-Request-ID": "mine"})
    (line,) = lines(one, "clinvk.run")
    for name in ("duration_ms", "queue_ms", "spawn_ms", "first_token_ms", "cost_usd", "time"):
        assert line.pop(name), name
    assert line == {
        "level": "info",
        "logger": "clinvk.run",
        "message": "run",
        "backend": "claude",
        "model": "fake-model",
        "outcome": "completed",
        "exit_code": 0,
        "start": "cold",
        "input_tokens": 16,
        "output_tokens": 7,
        "key": "ci",
        "run_id": answer.headers["X-Clinvk-Run-Id"],
        "request_id": "mine",
    }
    access = access_line(one, "mine")
    assert (access["status"], access["key"]) == (200, "ci")


def test_a_failed_and_a_refused_run_are_warnings_that_name_the_request(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    one.client.post("/api/v1/prompt", {"prompt": do(["result", True, "hush-words"])}, headers={"X-Request-ID": "failed"})
    with one.client.prompt_stream("claude", do(["hang"])), one.client.prompt_stream("claude", do(["hang"])):
        assert eventually(lambda: len(fake_cli.reports()) == 3)
        assert one.client.post("/api/v1/prompt", {"prompt": "hello"}, headers={"X-Request-ID": "refused"}).status == 503
    found = {line["request_id"]: line for line in lines(one, "clinvk.run")}
    assert (found["failed"]["level"], found["failed"]["outcome"], found["failed"]["exit_code"]) == ("warning", "backend", 1)
    assert (found["refused"]["level"], found["refused"]["message"], found["refused"]["outcome"]) == ("warning", "refused run", "queue_full")
    access = access_line(one, "refused")
    assert (access["status"], access["error"]) == (503, "backend_unavailable")


@pytest.mark.parametrize("path", ["/api/v1/prompt", "/openai/v1/chat/completions", "/anthropic/v1/messages"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_credential_on_stderr_is_for_the_log_alone(server: ServerFactory, fake_cli: FakeCli, path: str, stream: bool) -> None:
    one = start(server, fake_cli)
    prompt = do(
        ["stderr", "cannot log in with sk-ant-api03-secret-0123456789 through hush-key-0123456789 as token=hush-key-0123456789\n"],
        ["exit", 3],
    )
    body: dict[str, Any] = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}], "stream": stream}
    if path == "/api/v1/prompt":
        body = {"prompt": prompt, "output_format": "stream-json" if stream else "default"}
    with one.client.open("POST", path, body, headers={"X-Request-ID": "leaky"}) as answer:
        text = answer.response.read().decode()
    assert "cannot log in with [redacted]" in text
    assert "sk-ant-api03-secret" not in text
    (run,) = lines(one, "clinvk.run")
    assert "cannot log in with sk-ant-api03-secret-0123456789" in run["error"]
    assert "hush-key-0123456789" not in one.log()


def test_every_run_of_a_composition_names_the_request(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    tasks = [{"backend": "claude", "prompt": "a"}, {"backend": "claude", "prompt": "b"}]
    one.client.post("/api/v1/parallel", {"tasks": tasks}, headers={"X-Request-ID": "both", "traceparent": TRACE})
    runs = lines(one, "clinvk.run")
    assert [(run["request_id"], run["key"], run["trace_id"]) for run in runs] == [("both", "ci", TRACE.split("-")[1])] * 2


def test_what_a_driver_warns_of_names_the_request(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, warm={"max": 1, "min": 1})
    assert eventually(lambda: "waits in" in one.log())
    answer = one.client.post("/api/v1/prompt", {"prompt": do(["exit", 9]), "ephemeral": True}, headers={"X-Request-ID": "broken"})
    assert answer.status == 200
    warnings = [line for line in lines(one, "clinvk.warm") if line["level"] == "warning"]
    assert warnings
    assert {line.get("request_id") for line in warnings} == {"broken"}
    (run,) = lines(one, "clinvk.run")
    assert (run["start"], run["request_id"]) == ("fallback", "broken")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_text_of_a_caller_or_a_cli_gets_into_the_log_or_ends_its_line(server: ServerFactory, fake_cli: FakeCli, log_format: str) -> None:
    settings = {"log_format": log_format, "log_level": "debug"}
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": settings})
    client = Client(one.url, {"X-Api-Key": "hush-key-0123456789", "Authorization": "Bearer hush-bearer"})
    logged = len(one.log())
    for prompt in (HOSTILE, do(["say", HOSTILE], ["result", True, HOSTILE]), do(["stderr", HOSTILE], ["exit", 3])):
        client.prompt("claude", prompt, system_prompt=HOSTILE, title=HOSTILE)
        client.prompt_stream("claude", prompt, metadata={"x": HOSTILE}).hang_up()
    client.post("/openai/v1/chat/completions", {"model": HOSTILE, "messages": [{"role": "user", "content": HOSTILE}]})
    client.ask("POST", "/api/v1/prompt", b'{"prompt": hush')
    client.get("/api/v1/%0a%7b%22time%22:%20%22forged%22%7d?q=hush")
    client.get("/health", headers={"traceparent": f"{TRACE}-hush", "X-Request-ID": "hush hush"})
    assert eventually(lambda: '"/health"' in one.log()[logged:] or "path=/health" in one.log()[logged:])
    written = one.log()[logged:]
    assert "hush" not in written
    assert written.isascii()
    assert all(line.isprintable() for line in written.split("\n"))
    forged = [line for line in written.split("\n") if line.startswith('{"time": "forged"')]
    assert forged == []


def test_a_traceback_holds_no_line_that_looks_like_one_of_the_log() -> None:
    try:
        raise RuntimeError("x\n12:00:00 INFO    request status=200\n\x1b[2J")
    except RuntimeError as error:
        record = logging.LogRecord("clinvk.error", logging.ERROR, "", 0, "unhandled error", (), (RuntimeError, error, error.__traceback__))
    written = TextFormatter().format(record)
    first, *rest = written.split("\n")
    assert first.endswith("unhandled error")
    assert all(line.startswith("    ") and line.isprintable() and line.isascii() for line in rest)
    assert "    RuntimeError: x" in rest
