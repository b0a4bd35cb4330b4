"""Metrics of several workers: one sum, whoever is asked, over the death of workers; under every way to start the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.processes import children, eventually
from tests.parts.server import ROOT
from tests.server.observability.scraped import Scrape, scrape
from tests.server.observability.started import running

CONFIG = {"default_backend": "demo", "server": {"metrics_enabled": True, "workers": 2, "max_concurrent_runs": 5}}


def runs(found: Scrape) -> float:
    return found.sum("runs_total", outcome="completed")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("clinvk-*/*.db")}


def test_every_worker_tells_what_all_of_them_did(server: ServerFactory, tmp_path: Path) -> None:
    one = server(CONFIG, env={"TMPDIR": str(tmp_path)})
    assert eventually(lambda: scrape(one.client).sum("workers") == 2)
    for _ in range(12):
        assert one.client.prompt("demo", "hello").status == 200
    assert {runs(scrape(one.client)) for _ in range(12)} == {12}
    found = scrape(one.client)
    assert (found.sum("runs_limit"), found.sum("worker_starts_total")) == (10, 2)
    assert files(tmp_path) == {f"{kind}_{slot}.db" for kind in ("counter", "histogram", "gauge_livesum") for slot in (0, 1)}
    one.stop()
    assert list(tmp_path.glob("clinvk-*")) == []


def test_counts_outlive_their_workers_and_gauges_do_not(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    config = CONFIG | {"backends": {"claude": fake_cli.backend(warm={"max": 0})}}
    one = server(config, env={"TMPDIR": str(tmp_path)})
    for _ in range(4):
        assert one.client.prompt("demo", "hello").status == 200
    streams = [one.client.prompt_stream("claude", do(["say", "x"], ["hang"])) for _ in range(3)]
    assert eventually(lambda: scrape(one.client).sum("open_streams") == 3)
    assert eventually(lambda: scrape(one.client).sum("workers") == 2)
    for pid in children(one.pid):
        os.kill(pid, signal.SIGKILL)
    for stream in streams:
        stream.hang_up()

    def is_whole() -> bool:
        try:
            found = scrape(one.client)
        except OSError:
            return False
        now = tuple(found.sum(name) for name in ("workers", "worker_starts_total", "runs_in_flight", "open_streams"))
        return now == (2, 4, 0, 0)

    assert eventually(is_whole), one.log()
    assert runs(scrape(one.client)) == 4
    assert one.client.prompt("demo", "hello").status == 200
    assert {runs(scrape(one.client)) for _ in range(6)} == {5}
    assert {name for name in files(tmp_path) if name.startswith("counter")} == {"counter_0.db", "counter_1.db"}
    assert "Traceback" not in one.log()


def test_what_a_killed_server_leaves_of_its_metrics_the_next_one_removes(server: ServerFactory, tmp_path: Path) -> None:
    first = server(CONFIG, env={"TMPDIR": str(tmp_path)})
    left = set(tmp_path.glob("clinvk-*"))
    assert left
    first.kill_everything()
    assert set(tmp_path.glob("clinvk-*")) == left
    second = server(CONFIG, env={"TMPDIR": str(tmp_path)})
    assert eventually(lambda: not left & set(tmp_path.glob("clinvk-*")))
    assert scrape(second.client).sum("workers") >= 1


ON = {"CLINVK_SERVER__METRICS_ENABLED": "true"}
GUNICORN = ("gunicorn", "-c", "deploy/gunicorn.conf.py")


@pytest.mark.parametrize(
    "program",
    [
        pytest.param((*GUNICORN, "-k", "gevent", "-w", "2", "wsgi:app"), id="gunicorn's own worker"),
        pytest.param((*GUNICORN, "-w", "2", "wsgi:app"), id="our worker"),
        pytest.param(("gunicorn", "-k", "gevent", "-w", "2", "wsgi:app"), id="settings found by gunicorn"),
    ],
)
def test_gunicorns_own_command_shares_metrics_too(tmp_path: Path, program: tuple[str, ...]) -> None:
    with running(tmp_path, *program, **ON) as (_, client):
        assert eventually(lambda: scrape(client).sum("workers") == 2)
        for _ in range(6):
            assert client.prompt("demo", "hello").status == 200
        assert {runs(scrape(client)) for _ in range(6)} == {6}
    assert list(tmp_path.glob("clinvk-*/*.db")) == []


def test_flask_run_keeps_its_metrics_in_memory_whatever_the_environment_says(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with running(tmp_path, "flask", "run", "--port", "{port}", **ON, PROMETHEUS_MULTIPROC_DIR=str(elsewhere)) as (_, client):
        assert client.prompt("demo", "hello").status == 200
        assert runs(scrape(client)) == 1
        assert scrape(client).sum("workers") == 1
    assert list(elsewhere.iterdir()) == []


def test_off_it_costs_no_import() -> None:
    code = "import sys, wsgi; wsgi.app; print(sorted(name for name in sys.modules if name.startswith(('prometheus', 'opentelemetry'))))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "CLINVK_BACKEND": "demo"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
