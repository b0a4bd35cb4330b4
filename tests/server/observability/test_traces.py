"""Whose trace a run belongs to: a well-formed `traceparent` in the log and in the CLI's environment; spans, where they are on."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.config.checks import check_together
from app.config.schema import ServerSettings, Settings
from app.observability.trace_context import to_trace
from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.processes import eventually
from tests.parts.server import Server
from tests.server.observability.test_logs import access_line, lines

ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACE = f"00-{ID}-{PARENT}-01"
SHELL = {"command": ["sh"], "custom": {"output": "text"}}
TELL = 'echo "[$TRACEPARENT]"'

BAD = [
    "",
    "x",
    TRACE.upper(),
    f"{TRACE}-00",
    f"{TRACE}\u00a0",
    f" {TRACE} x",
    f"{TRACE},{TRACE}",
    f"01-{ID}-{PARENT}-01",
    f"ff-{ID}-{PARENT}-01",
    f"00-{'0' * 32}-{PARENT}-01",
    f"00-{ID}-{'0' * 16}-01",
    f"00-{ID[:-1]}-{PARENT}-01",
    f"00-{ID}-{PARENT}-0",
    f"00-{ID}-{PARENT}-01; touch /tmp/x",
    "$(touch /tmp/x)",
    "00-" + "٣" * 32 + f"-{PARENT}-01",
]


@pytest.mark.parametrize("header", BAD)
def test_what_is_not_exactly_a_traceparent_is_none(header: str) -> None:
    assert to_trace(header) is None
    assert to_trace(header + "\n") is None


@pytest.mark.parametrize(("flags", "handed_on"), [("00", "00"), ("01", "01"), ("03", "01"), ("fe", "00")])
def test_a_traceparent_is_written_anew(flags: str, handed_on: str) -> None:
    assert str(to_trace(f"00-{ID}-{PARENT}-{flags}")) == f"00-{ID}-{PARENT}-{handed_on}"
    assert to_trace(f"{TRACE}\n") is None


def test_the_cli_and_the_log_are_told_whose_trace_it_is(server: ServerFactory) -> None:
    one = server({"default_backend": "shell", "backends": {"shell": SHELL}, "server": {"log_format": "json"}})
    answer = one.client.post("/api/v1/prompt", {"prompt": TELL}, headers={"traceparent": TRACE, "X-Request-ID": "mine"})
    assert answer.json["output"] == f"[{TRACE}]\n"
    (run,) = lines(one, "clinvk.run")
    assert run["trace_id"] == access_line(one, "mine")["trace_id"] == ID
    for header in BAD:
        if header.isascii():
            assert one.client.post("/api/v1/prompt", {"prompt": TELL}, headers={"traceparent": header}).json["output"] == "[]\n", header
    assert len([line for line in lines(one) if "trace_id" in line]) == 2


def test_the_servers_own_variable_is_not_the_runs(server: ServerFactory) -> None:
    one = server({"default_backend": "shell", "backends": {"shell": SHELL}}, env={"TRACEPARENT": TRACE})
    assert one.client.post("/api/v1/prompt", {"prompt": TELL}).json["output"] == "[]\n"


def test_a_trace_keeps_no_run_from_a_warm_process(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(
        {"default_backend": "claude", "backends": {"claude": fake_cli.backend(warm={"max": 2, "min": 1})}, "server": {"log_level": "debug"}}
    )
    assert eventually(lambda: one.log().count("waits in") == 2)
    assert one.client.post("/api/v1/prompt", {"prompt": "hello"}, headers={"traceparent": TRACE}).status == 200
    (run,) = lines(one, "clinvk.run")
    assert (run["start"], run["trace_id"]) == ("warm", ID)


class Collector:
    """An OTLP collector on loopback: the spans that it was sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[dict[str, Any], Any]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in sent.resource_spans:
                    told = {item.key: item.value.string_value for item in resource.resource.attributes}
                    collector.spans += [(told, span) for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def wait_for(self, *names: str) -> list[Any]:
        """The spans of these names, once there is one of each."""
        assert eventually(lambda: set(names) <= {span.name for _, span in self.spans}), [span.name for _, span in self.spans]
        return [next(span for _, span in self.spans if span.name == name) for name in names]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


def traced(server: ServerFactory, env: dict[str, str], **backends: Any) -> Server:
    settings = {"tracing_enabled": True, "log_format": "json", "metrics_enabled": True}
    config = {"default_backend": "shell", "backends": {"shell": SHELL} | backends, "server": settings}
    return server(config, env={"OTEL_BSP_SCHEDULE_DELAY": "100"} | env)


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


def test_spans_reach_a_collector_below_the_callers_own(server: ServerFactory, collector: Collector) -> None:
    one = traced(server, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test"})
    sent = {"traceparent": TRACE, "X-Request-ID": "mine"}
    answer = one.client.post("/api/v1/prompt?q=hush", {"prompt": TELL, "system_prompt": "hush", "title": "hush"}, headers=sent)
    request, run = collector.wait_for("POST /api/v1/prompt", "run shell")
    assert request.trace_id.hex() == run.trace_id.hex() == ID
    assert request.parent_span_id.hex() == PARENT
    assert run.parent_span_id == request.span_id
    assert answer.json["output"] == f"[00-{ID}-{run.span_id.hex()}-01]\n"
    assert [event.name for event in run.events] == ["admitted", "spawned", "first token"]
    times = [run.start_time_unix_nano, *(event.time_unix_nano for event in run.events), run.end_time_unix_nano]
    assert times == sorted(times)
    assert attributes(request) | {
        "http.response.status_code": 200,
        "http.route": "/api/v1/prompt",
        "clinvk.request_id": "mine",
    } == attributes(request)
    assert attributes(run) | {"clinvk.outcome": "completed", "clinvk.start": "cold"} == attributes(run)
    resource = collector.spans[0][0]
    assert (resource["service.name"], resource["deployment.environment"]) == ("clinvk", "test")
    assert "hush" not in repr(collector.spans)
    assert "echo" not in repr(collector.spans)
    (line,) = lines(one, "clinvk.run")
    assert line["trace_id"] == ID


def test_a_caller_that_does_not_sample_is_obeyed_and_one_without_a_trace_begins_one(server: ServerFactory, collector: Collector) -> None:
    one = traced(server, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "agents"})
    unsampled = one.client.post("/api/v1/prompt", {"prompt": TELL}, headers={"traceparent": f"00-{ID}-{PARENT}-00"}).json["output"]
    assert unsampled.startswith(f"[00-{ID}-")
    assert unsampled.endswith("-00]\n")
    own = one.client.post("/api/v1/prompt", {"prompt": TELL}, headers={"traceparent": f"{TRACE}-hush"}).json["output"]
    request, run = collector.wait_for("POST /api/v1/prompt", "run shell")
    assert request.parent_span_id == b""
    assert own == f"[00-{request.trace_id.hex()}-{run.span_id.hex()}-01]\n"
    assert ID not in {span.trace_id.hex() for _, span in collector.spans}
    assert collector.spans[0][0]["service.name"] == "agents"


def test_every_run_of_a_composition_and_a_failed_one_has_a_span(server: ServerFactory, collector: Collector, fake_cli: FakeCli) -> None:
    one = traced(server, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}, claude=fake_cli.backend(warm={"max": 0}))
    tasks = [{"backend": "claude", "prompt": "a"}, {"backend": "claude", "prompt": do(["result", True, "hush"])}]
    one.client.post("/api/v1/parallel", {"tasks": tasks}, headers={"traceparent": TRACE})
    (request,) = collector.wait_for("POST /api/v1/parallel")
    assert eventually(lambda: len([span for _, span in collector.spans if span.name == "run claude"]) == 2)
    runs = [span for _, span in collector.spans if span.name == "run claude"]
    assert {run.parent_span_id for run in runs} == {request.span_id}
    assert sorted(run.status.message for run in runs) == ["", "backend"]
    assert "hush" not in repr(collector.spans)


@pytest.mark.parametrize(
    "env", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}]
)
def test_without_a_collector_runs_go_on_and_the_callers_trace_is_handed_on(server: ServerFactory, env: dict[str, str]) -> None:
    one = traced(server, env)
    answer = one.client.post("/api/v1/prompt", {"prompt": TELL}, headers={"traceparent": TRACE})
    assert answer.json["output"].startswith(f"[00-{ID}-")


def test_a_server_that_ends_sends_its_last_spans(server: ServerFactory, collector: Collector) -> None:
    one = traced(server, {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"})
    one.client.post("/api/v1/prompt", {"prompt": TELL})
    access_line(one, lines(one, "clinvk.run")[0]["request_id"])
    assert collector.spans == []
    one.stop()
    collector.wait_for("POST /api/v1/prompt", "run shell")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "OTEL_TRACES_EXPORTER: expected one of otlp, console, none, got 'zipkin'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf, got 'grpc'"),
    ],
)
def test_what_the_standard_variables_ask_for_in_vain_stops_the_start_with_the_reason(
    name: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    (problem,) = check_together(Settings(server=ServerSettings(tracing_enabled=True)))
    assert str(problem) == f"server.tracing_enabled: {told}"
    assert check_together(Settings()) == []


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.config.checks.find_spec", lambda name: None)
    (problem,) = check_together(Settings(server=ServerSettings(tracing_enabled=True)))
    assert " -m pip install opentelemetry-sdk " in problem.message


def test_a_background_run_belongs_to_the_trace_of_its_submission(server: ServerFactory) -> None:
    one = server({"default_backend": "shell", "backends": {"shell": SHELL}, "server": {"log_format": "json"}})
    run = one.client.post("/api/v1/prompt", {"prompt": TELL, "background": True}, headers={"traceparent": TRACE}).json
    assert one.client.get(f"/api/v1/runs/{run['id']}?wait=30").json["result"]["output"] == f"[{TRACE}]\n"
    (line,) = lines(one, "clinvk.run")
    assert (line["trace_id"], line["run_id"], line["request_id"]) == (ID, run["id"], run["meta"]["request_id"])
