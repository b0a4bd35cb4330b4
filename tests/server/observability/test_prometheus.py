"""deploy/prometheus and deploy/grafana: Prometheus' own tool reads them, alerts fire when they should, and every name is one of ours."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from app.observability.metrics import LABELS, METRICS
from tests.conftest import ServerFactory
from tests.parts.client import Client
from tests.parts.processes import eventually
from tests.parts.programs import require_program
from tests.parts.server import ROOT
from tests.server.observability.started import free_port

PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "clinvk.json").read_text())
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
NAME = re.compile(r"\bclinvk_[a-z_]+\b")
MATCHER = re.compile(r"\{([^}]*)\}")
LABEL = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
BY = re.compile(r"\bby \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job", "le"}

SAMPLES = {
    metric.name + suffix: metric
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}
"""The names that can be queried."""


def promtool(*args: str) -> str:
    done = subprocess.run([require_program("promtool", "prometheus"), *args], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> list[str]:
    """Every PromQL of the dashboard, as Grafana sends it when nothing is chosen."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [re.sub(r"\$(instance|backend|key)\b", ".*", query.replace("$__rate_interval", "5m")) for query in found]


def alert_queries() -> list[str]:
    return [rule["expr"] for group in ALERTS["groups"] for rule in group["rules"]]


def test_promtool_accepts_the_alert_rules() -> None:
    assert f"{len(alert_queries())} rules found" in promtool("check", "rules", str(PROMETHEUS / "alerts.yml"))


def test_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(Path(__file__).parent / "alerts.test.yml"))


def test_every_alert_is_tested_firing_and_silent() -> None:
    cases = yaml.safe_load((Path(__file__).parent / "alerts.test.yml").read_text())["tests"]
    names = {rule["alert"] for group in ALERTS["groups"] for rule in group["rules"]}
    for fires in (True, False):
        tested = {case["alertname"] for test in cases for case in test["alert_rule_test"] if bool(case["exp_alerts"]) is fires}
        assert tested == names


def test_promtool_accepts_the_configuration(tmp_path: Path) -> None:
    text = (PROMETHEUS / "prometheus.yml").read_text()
    (tmp_path / "clinvk.key").write_text("key")
    (tmp_path / "alerts.yml").write_text((PROMETHEUS / "alerts.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/clinvk.key", str(tmp_path / "clinvk.key")))
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_promtool_parses_every_query_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(tmp_path / "rules.yml"))


@pytest.mark.parametrize("query", queries() + alert_queries())
def test_every_name_and_label_of_a_query_is_one_that_there_is(query: str) -> None:
    names = NAME.findall(query)
    assert names or query.startswith("up{")
    assert set(names) <= set(SAMPLES)
    known = OF_PROMETHEUS | {label for name in names for label in SAMPLES[name].labels}
    asked = {label for matchers in MATCHER.findall(query) for label in LABEL.findall(matchers)}
    asked |= {label.strip() for labels in BY.findall(query) for label in labels.split(",")}
    assert asked <= known


@pytest.mark.parametrize("query", queries())
def test_a_counter_is_only_asked_for_its_rate(query: str) -> None:
    for name in NAME.findall(query):
        if SAMPLES[name].kind != "gauge":
            assert re.search(rf"\b(rate|increase)\({name}\b", query), name


def test_the_dashboard_shows_every_metric() -> None:
    shown = {SAMPLES[name].name for query in queries() for name in NAME.findall(query)}
    assert shown == {metric.name for metric in METRICS}


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\b", json.dumps(DASHBOARD["panels"])))
    assert used <= variables
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel["targets"]:
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels <= set(LABELS) | OF_PROMETHEUS


def test_a_real_prometheus_reads_the_server_with_a_key_and_answers_every_query(server: ServerFactory, tmp_path: Path) -> None:
    program = require_program("prometheus")
    one = server(
        {
            "default_backend": "demo",
            "server": {
                "metrics_enabled": True,
                "workers": 2,
                "api_keys": [{"name": "metrics", "key": "right-0123456789", "role": "admin"}],
            },
        }
    )
    assert Client(one.url, {"X-Api-Key": "right-0123456789"}).prompt("demo", "hello").status == 200
    (tmp_path / "key").write_text("right-0123456789\n")
    (tmp_path / "alerts.yml").write_text((PROMETHEUS / "alerts.yml").read_text())
    text = (PROMETHEUS / "prometheus.yml").read_text().replace("/etc/prometheus/clinvk.key", str(tmp_path / "key"))
    (tmp_path / "prometheus.yml").write_text(text.replace("localhost:8080", one.url.removeprefix("http://")).replace("15s", "1s"))
    port = free_port()
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([program, *options], cwd=tmp_path, stdout=log, stderr=log)
    prometheus = Client(f"http://127.0.0.1:{port}")

    def value(query: str) -> float | None:
        try:
            answer = prometheus.get(f"/api/v1/query?{urlencode({'query': query})}")
        except OSError:
            return None
        if answer.status == 503:  # not ready yet
            return None
        assert answer.status == 200, (query, answer.body)
        result = answer.json["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    try:
        assert eventually(lambda: value('clinvk_runs_total{backend="demo", outcome="completed"}') == 1, 30), (tmp_path / "log").read_text()
        assert value('up{job="clinvk"}') == 1
        assert eventually(lambda: value('sum(increase(clinvk_http_requests_total{route="/metrics"}[5m])) > 0'))
        for query in queries() + alert_queries():
            value(query)
    finally:
        process.terminate()
        process.wait(20)
