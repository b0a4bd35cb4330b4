"""What /metrics tells, of real runs on a real server: names, units, labels, and nothing that is nobody's business."""

from __future__ import annotations

import signal
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from app.observability.metric_labels import LEARNED_LIMIT, ModelLabels, method_label, route_label
from app.observability.metrics import BUCKETS, LABELS, METRICS, OVERFLOW
from app.observability.observers import CompositeObserver
from services.access.key_ring import KeyRing
from services.clis.claude.spec import SPEC as CLAUDE
from tests.conftest import ServerFactory
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.keys import ring_of
from tests.parts.processes import eventually
from tests.parts.programs import require_program
from tests.parts.server import Server
from tests.server.observability.scraped import Scrape, scrape
from tests.unit.app.parts import ask, make_app, stand_in_services

KEYS = {"X-Api-Key": "hush-key-0123456789"}


@pytest.fixture
def counting(server: ServerFactory, fake_cli: FakeCli) -> Server:
    config = {
        "default_backend": "claude",
        "backends": {"claude": fake_cli.backend(warm={"max": 0}), "codex": {"enabled": False}},
        "server": {
            "metrics_enabled": True,
            "api_keys": [{"name": "ci", "key": "hush-key-0123456789", "role": "admin"}],
            "max_concurrent_runs": 1,
            "max_queued_runs": 1,
        },
    }
    one = server(config)
    one.client = Client(one.url, KEYS)
    return one


def test_a_run_is_counted_with_its_outcome_its_times_and_its_tokens(counting: Server) -> None:
    assert counting.client.prompt("claude", "hush-prompt").status == 200
    assert counting.client.prompt("claude", do(["say", "x"], ["result", True, "hush-failure"])).status == 200
    found = scrape(counting.client)
    assert found.sum("runs_total", backend="claude", outcome="completed") == 1
    assert found.sum("runs_total", backend="claude", outcome="backend") == 1
    assert found.sum("http_requests_total", route="/api/v1/prompt", method="POST", status=200) == 2
    for name in ("run_duration_seconds", "queue_wait_seconds"):
        assert found.sum(f"{name}_count", backend="claude") == 2, name
    for name in ("time_to_first_token_seconds", "spawn_seconds"):
        assert found.sum(f"{name}_count", backend="claude", start="cold") == 2, name
    assert found.sum("tokens_total", type="input", backend="claude", key="ci") >= 16
    assert found.sum("tokens_total", type="output", backend="claude", key="ci") >= 7
    assert found.sum("tokens_total", type="cached", backend="claude", key="ci") >= 5
    assert found.sum("cost_usd_total", backend="claude", key="ci") > 0
    assert found.sum("build_info") == 1
    assert found.sum("backend_available", backend="claude") == 1
    assert "hush" not in found.text


def test_what_runs_waits_and_streams_now_is_told(counting: Server) -> None:
    stream = counting.client.prompt_stream("claude", do(["say", "x"], ["hang"]))
    with stream, counting.client.send("POST", "/api/v1/prompt", {"backend": "claude", "prompt": "waits"}):
        next(iter(stream.lines()))

        def now(found: Scrape) -> tuple[float, ...]:
            return tuple(found.sum(name) for name in ("runs_in_flight", "queue_depth", "open_streams", "http_requests_in_flight"))

        assert eventually(lambda: now(scrape(counting.client)) == (1, 1, 1, 3)), now(scrape(counting.client))
        assert counting.client.prompt("claude", "too many").status == 503
    assert eventually(lambda: now(scrape(counting.client)) == (0, 0, 0, 1)), now(scrape(counting.client))
    found = scrape(counting.client)
    assert (found.sum("runs_limit"), found.sum("queue_limit"), found.sum("workers"), found.sum("worker_starts_total")) == (1, 1, 1, 1)
    assert found.sum("runs_refused_total", backend="claude", reason="queue_full") == 1
    assert found.sum("http_errors_total", surface="native", code="backend_unavailable") == 1
    assert found.sum("runs_total", backend="claude", outcome="cancelled") >= 1


def test_warm_processes_and_the_runs_in_them_are_told(server: ServerFactory, fake_cli: FakeCli) -> None:
    backend = fake_cli.backend(warm={"max": 2, "min": 1})
    one = server({"default_backend": "claude", "backends": {"claude": backend}, "server": {"metrics_enabled": True}})
    assert eventually(lambda: scrape(one.client).sum("warm_processes", backend="claude") == 2)
    assert one.client.prompt("claude", "hello").status == 200
    assert eventually(lambda: scrape(one.client).sum("warm_processes", backend="claude") == 2)
    assert one.client.prompt("claude", do(["exit", 9])).status == 200  # breaks before its first word, so it runs once more
    found = scrape(one.client)
    starts = {start: found.sum("run_starts_total", backend="claude", start=start) for start in ("cold", "warm", "fallback")}
    assert starts == {"cold": 0, "warm": 1, "fallback": 1}
    assert found.sum("time_to_first_token_seconds_count", backend="claude", start="warm") == 1


def test_an_observer_that_breaks_breaks_no_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def begin(self, run: object) -> None:
            raise OSError("no space left")

        finish = begin

    told: list[object] = []
    both = CompositeObserver([Broken(), SimpleNamespace(begin=told.append, finish=told.append)])
    run: Any = object()
    both.begin(run)
    both.finish(run)
    assert told == [run, run]
    assert caplog.text.count("an observer failed") == 2


def test_refused_requests_are_counted_by_the_code_of_their_error(server: ServerFactory) -> None:
    limits = {"rate_limit_enabled": True, "rate_limit_burst": 1, "rate_limit_rps": 0.01, "metrics_public": True}
    one = server(
        {
            "default_backend": "demo",
            "server": {"metrics_enabled": True, "api_keys": [{"name": "ci", "key": "hush-key-0123456789", "role": "admin"}], **limits},
        }
    )
    assert one.client.get("/api/v1/backends").status == 401
    keyed = Client(one.url, KEYS)
    assert [keyed.prompt("demo", "hello").status for _ in range(3)] == [200, 429, 429]
    found = scrape(one.client)
    assert found.sum("http_errors_total", surface="native", code="authentication_error") == 1
    assert found.sum("http_errors_total", surface="native", code="rate_limit_exceeded") == 2
    assert found.sum("http_requests_total", route="/api/v1/prompt", status=429) == 2


def test_no_caller_makes_series_without_end(counting: Server) -> None:
    for number in range(30):
        counting.client.get(f"/api/v1/nothing/{number}")
        counting.client.get(f"/api/v1/sessions/{number:032x}")
        counting.client.ask(f"BREW{number}", "/health")
        counting.client.prompt("claude", do(["result", True, "no such model"]), model=f"hush-model-{number}")
    found = scrape(counting.client)
    routes = {route.rule for route in make_app().url_map.iter_rules()}
    assert found.labels("http_requests_total", "route") <= {route_label(rule) for rule in routes} | {"unmatched"}
    assert found.labels("http_requests_total", "route") >= {"unmatched", "/api/v1/sessions/{session_id}"}
    assert found.labels("http_requests_total", "method") == {"GET", "POST", OVERFLOW}
    assert "hush" not in found.text


OF_SOME_BACKENDS = ("warm_processes", "fallbacks_total", "plan_window_used_ratio", "plan_window_resets_at_seconds")
"""Have no series without a pool, a chain, or a subscription; tests/server/test_fallback.py has those of the last two."""


def test_every_metric_is_of_the_table_and_every_one_of_the_table_is_there(counting: Server) -> None:
    assert counting.client.prompt("claude", "hello").status == 200
    counting.client.get("/api/v1/nothing")
    found = scrape(counting.client)
    kinds = {family.name: family for family in found.families}
    for metric in METRICS:
        if metric.name.removeprefix("clinvk_") in OF_SOME_BACKENDS:
            continue
        family = kinds.pop(metric.name.removesuffix("_total"))
        assert (family.type, family.documentation) == (metric.kind, metric.help), metric.name
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert labels == set(metric.labels), metric.name
    assert set(kinds) <= {f"clinvk_{name}".removesuffix("_total") for name in OF_SOME_BACKENDS}
    assert {label for metric in METRICS for label in metric.labels} == set(LABELS)
    assert max(BUCKETS) == 3600


def test_promtool_finds_nothing_to_complain_about(counting: Server) -> None:
    promtool = require_program("promtool", "prometheus")
    counting.client.prompt("claude", "hello")
    text = counting.client.get("/metrics").body
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize(("settings", "key", "status"), [
    ({}, None, 401),
        ({}, "right", 404),
    ({"metrics_enabled": True}, None, 401),
    ({"metrics_enabled": True}, "right", 200),
    ({"metrics_enabled": True}, "user", 403),
    ({"metrics_enabled": True, "metrics_public": True}, "user", 200),
    ({"metrics_enabled": True, "metrics_public": True}, None, 200),
    ({"metrics_public": True}, None, 404),
])  # fmt: skip
def test_metrics_need_an_admin_s_key_unless_they_are_public(settings: dict[str, bool], key: str | None, status: int) -> None:
    app = make_app("right", services=services(), **settings)
    app.extensions["clinvk"].keys.configure(KeyRing((*ring_of("right", role="admin"), *ring_of("user"))), is_open=False, is_local=True)
    answer = ask(app, "/metrics", {"X-Api-Key": key} if key else {})
    assert answer.status_code == status
    if status == 200:
        assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert ask(app, "/metricsx").status_code == 401


def services() -> Any:
    made = stand_in_services()
    made.runner.admission = SimpleNamespace(running=0, queued=0, limit=1, queue_limit=1)
    made.runner.ready_counts = dict
    return made


def test_a_model_has_a_name_where_the_configuration_or_a_run_that_went_well_vouches_for_it() -> None:
    models = ModelLabels()
    known = next(iter(CLAUDE.aliases.values()))
    assert models.label(CLAUDE, None, is_vouched=True) == "default"
    assert models.label(CLAUDE, known, is_vouched=False) == known
    assert models.label(CLAUDE, "claude-9", is_vouched=False) == OVERFLOW
    assert models.label(CLAUDE, "claude-9", is_vouched=True) == "claude-9"
    assert models.label(CLAUDE, "claude-9", is_vouched=False) == "claude-9"
    assert models.label(CLAUDE, 'evil"} 1\nmodel', is_vouched=True) == OVERFLOW
    names = {models.label(CLAUDE, f"claude-{number}", is_vouched=True) for number in range(1000)}
    assert len(names) <= LEARNED_LIMIT + 1
    assert OVERFLOW in names


def test_routes_are_told_by_their_template_and_methods_by_a_list() -> None:
    assert route_label("/api/v1/sessions/<session_id>/turns") == "/api/v1/sessions/{session_id}/turns"
    assert route_label("/models/<path:model>") == "/models/{model}"
    assert (route_label(""), method_label("GET"), method_label("BREW")) == ("unmatched", "GET", OVERFLOW)


def test_a_renewed_configuration_counts_on(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"metrics_enabled": True}})
    assert one.client.prompt("claude", "before").status == 200
    one.signal(signal.SIGHUP)
    assert eventually(lambda: "configuration reloaded" in one.log())
    assert one.client.prompt("claude", "after").status == 200
    assert eventually(lambda: scrape(one.client).sum("runs_total", backend="claude", outcome="completed") == 2)


def test_the_table_is_ready_for_a_reference() -> None:
    assert all(metric.help.endswith(".") and metric.kind in ("counter", "gauge", "histogram") for metric in METRICS)
