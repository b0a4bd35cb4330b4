"""Request ids and the request log: every answer has an id, every request one line, and no line says too much."""

from __future__ import annotations

import io
import json
import logging
from functools import cache
from typing import Any

import pytest
from flask import Flask

from app.observability.context import REQUEST_ID
from app.observability.logs import JsonFormatter, TextFormatter, configure_logging
from tests.unit.app.parts import PREFIXES, ask, fail_with, make_app, shared_app


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.name == "clinvk.access"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", ["abc", "A-b_c.9", "x" * 128])
def test_a_sane_request_id_is_kept(given: str) -> None:
    assert ask(shared_app(), "/health", {"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a;b", "ä", "a/b", "$(x)"])
def test_any_other_request_id_is_replaced(given: str) -> None:
    answer = ask(shared_app(), "/health", {"X-Request-ID": given})
    assert answer.headers["X-Request-ID"] != given
    assert REQUEST_ID.fullmatch(answer.headers["X-Request-ID"])


def test_new_request_ids_differ() -> None:
    app = shared_app()
    assert len({ask(app, "/health").headers["X-Request-ID"] for _ in range(20)}) == 20


@cache
def failing_app() -> Flask:
    app = make_app("right")
    for prefix in PREFIXES.values():
        fail_with(app, f"{prefix}/fail", RuntimeError)
    return app


@pytest.mark.parametrize("prefix", PREFIXES.values())
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/echo", {"Authorization": "Bearer right"}, 200),
        ("GET", "/echo", {}, 401),
        ("GET", "/echo", {"Host": "evil.example"}, 403),
        ("GET", "/nothing", {"X-Api-Key": "right"}, 404),
        ("PUT", "/echo", {"X-Api-Key": "right"}, 405),
        ("POST", "/echo", {"Content-Length": "99999999999"}, 413),
        ("POST", "/echo", {"Content-Length": "1", "X-Api-Key": "right"}, 415),
        ("GET", "/fail", {"X-Api-Key": "right"}, 500),
        ("OPTIONS", "/echo", {"Origin": "http://localhost", "Access-Control-Request-Method": "POST"}, 204),
    ],
)
def test_every_answer_carries_the_request_id(prefix: str, method: str, path: str, headers: dict[str, str], status: int) -> None:
    app = failing_app()
    headers = dict(headers)
    length = {"CONTENT_LENGTH": headers.pop("Content-Length")} if "Content-Length" in headers else {}
    answer = ask(app, prefix + path, {"X-Request-ID": "mine", **headers}, method=method, environ_overrides=length)
    assert answer.status_code == status
    assert answer.headers.getlist("X-Request-ID") == ["mine"]
    assert answer.headers.get("request-id") == ("mine" if prefix == PREFIXES["anthropic"] else None)


def test_routes_see_the_request_id_and_the_caller() -> None:
    answer = ask(make_app("ci=right"), "/api/v1/who", {"X-Api-Key": "right", "X-Request-ID": "mine"})
    assert answer.get_json() == {"caller": "ci", "request_id": "mine"}
    assert ask(make_app(), "/api/v1/who").get_json()["caller"] == "127.0.0.1"


def test_one_line_per_request(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        answer = ask(make_app("ci=right"), "/openai/v1/echo?q=secret", {"X-Api-Key": "right", "X-Request-ID": "mine"})
    (line,) = lines(caplog)
    assert line.pop("duration_ms") >= 0
    assert line == {
        "method": "GET",
        "path": "/openai/v1/echo",
        "status": 200,
        "bytes": len(answer.data),
        "client": "127.0.0.1",
        "key": "ci",
        "request_id": "mine",
        "surface": "openai",
    }


def test_the_log_holds_no_prompt_no_key_and_no_query(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ask(make_app("right"), "/api/v1/echo?token=hush-query", {"X-Api-Key": "hush-key"}, method="POST", json={"prompt": "hush-prompt"})
        ask(make_app("ci=hush-right"), "/api/v1/echo", {"X-Api-Key": "hush-right"}, method="POST", json={"prompt": "hush-prompt"})
    assert len(lines(caplog)) == 2
    assert "hush" not in caplog.text + repr([record.__dict__ for record in caplog.records])


def test_a_stream_is_logged_when_it_has_ended_with_all_its_bytes(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    app.add_url_rule("/api/v1/stream", "stream", lambda: app.response_class(iter([b"one", b"two"])))
    with caplog.at_level(logging.INFO):
        answer = app.test_client().get("/api/v1/stream")
        parts = answer.iter_encoded()
        assert next(parts) == b"one"
        assert lines(caplog) == []
        assert list(parts) == [b"two"]
        answer.close()
    (line,) = lines(caplog)
    assert line["bytes"] == 6
    assert "aborted" not in line


def test_a_stream_whose_client_left_is_logged_as_aborted_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    closed = []

    def body() -> Any:
        try:
            yield b"one"
            yield b"two"
        finally:
            closed.append(True)

    app = make_app()
    app.add_url_rule("/api/v1/stream", "stream", lambda: app.response_class(body()))
    with caplog.at_level(logging.INFO):
        answer = app.test_client().get("/api/v1/stream")
        assert next(answer.iter_encoded()) == b"one"
        answer.close()
    assert closed == [True]
    (line,) = lines(caplog)
    assert (line["aborted"], line["bytes"]) == (True, 3)


def test_a_stream_that_breaks_leaves_its_traceback_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def body() -> Any:
        yield b"one"
        raise RuntimeError("xyzzy")

    app = make_app()
    app.add_url_rule("/api/v1/stream", "stream", lambda: app.response_class(body()))
    with pytest.raises(RuntimeError, match="xyzzy"):
        ask(app, "/api/v1/stream")
    assert any(record.name == "clinvk.error" and record.exc_info for record in caplog.records)


def record(**fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("clinvk.access", logging.INFO, "", 0, "request", (), None)
    made.fields = fields
    return made


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@pytest.mark.parametrize("path", ["/a\nb", "/a\r\nInjected: 1", "/\x1b[31mred", "/a\u2028b", "/a\x85b", "/\x9b31m"])
def test_nothing_in_a_path_ends_the_line_or_steers_a_terminal(formatter: logging.Formatter, path: str) -> None:
    line = formatter.format(record(path=path))
    assert line.isprintable()
    assert line.isascii()


def test_json_lines_are_json() -> None:
    line = json.loads(JsonFormatter().format(record(path='/"\u2028', status=200)))
    assert line["path"] == '/"\u2028'
    assert (line["status"], line["level"], line["message"]) == (200, "info", "request")
    assert line["time"].endswith("Z")


def test_text_lines_quote_what_would_mislead() -> None:
    one = record(path="/a b", key=None, forged="x status=200")
    line = TextFormatter().format(one)
    assert line.endswith('request path="/a b" forged="x status=200"')


def test_the_log_goes_to_the_stream_once_in_the_chosen_form() -> None:
    stream = io.StringIO()
    make_app()
    configure_logging("json", "info", stream)
    configure_logging("json", "info", stream)
    logging.getLogger("clinvk.access").info("hello")
    logging.getLogger("clinvk.access").debug("too quiet")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["hello"]
    make_app()  # takes the loggers back from the stream
