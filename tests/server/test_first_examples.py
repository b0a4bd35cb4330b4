"""Everything that the documents of the original program show, asked of this server. What differs is in docs/migration.md.

A bind to every address, with the key that is made for the run, is in test_serve.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest
import yaml

from app.config.load import load_settings
from app.config.problems import SettingsError
from app.security.api_keys import load_keys
from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.server import Server

KEY = "a-key-0123456789abcdef"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> FakeCli:
    return FakeCli(tmp_path_factory.mktemp("cli") / "reports")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, cli: FakeCli) -> Iterator[Server]:
    config = {"backends": {"claude": cli.backend(), "codex": cli.app_server(), "gemini": {"enabled": False}}}
    running = Server(tmp_path_factory.mktemp("server"), config)
    yield running
    running.stop()


def test_health(one: Server) -> None:
    body = one.client.get("/health").json
    assert body["status"] == "ok"
    assert {"version", "uptime", "uptime_millis", "backends", "sessions"} <= set(body)
    assert body["sessions"] == {"status": "ok", "count": body["sessions"]["count"]}, "differs: its name was session_store"


def test_openapi_and_backends(one: Server) -> None:
    assert one.client.get("/openapi.json").json["openapi"].startswith("3.")
    assert [backend["name"] for backend in one.client.get("/api/v1/backends").json["backends"]] == ["claude", "codex", "demo"]


@pytest.mark.parametrize("prompt", ["explain this code", "解释这段代码"])
def test_a_prompt_and_the_output_that_the_javascript_example_reads(one: Server, prompt: str) -> None:
    answer = one.client.post("/api/v1/prompt", {"backend": "claude", "prompt": prompt})
    assert (answer.status, answer.json["output"]) == (200, f"You said: {prompt}"), "differs: 200, not 201, since a run is no resource"
    assert "data" not in answer.json, "differs: flat, with meta beside the fields"
    assert set(answer.json["meta"]) == {"request_id", "timestamp"}


def test_parallel_on_two_backends(one: Server) -> None:
    tasks = [{"backend": "claude", "prompt": "one"}, {"backend": "codex", "prompt": "two"}]
    answer = one.client.post("/api/v1/parallel", {"tasks": tasks}).json
    assert [(run["backend"], run["status"]) for run in answer["results"]] == [("claude", "completed"), ("codex", "completed")]


def test_a_session_is_created_read_continued_forked_and_deleted(one: Server) -> None:
    created = one.client.post("/api/v1/sessions", {"backend": "demo"})
    assert (created.status, created.headers["Location"]) == (201, f"/api/v1/sessions/{created.json['id']}")
    path = f"/api/v1/sessions/{created.json['id']}"
    assert one.client.get(path).json["id"] == created.json["id"]
    assert one.client.post(f"{path}/resume", {"prompt": "hello"}).status == 200
    assert one.client.post(f"{path}/fork", {}).status == 201
    assert one.client.ask("DELETE", path).status == 200
    assert one.client.get(path).status == 404


def test_an_error_has_the_documented_envelope(one: Server) -> None:
    answer = one.client.post("/api/v1/prompt", {"backend": "claude"})
    error = answer.json["error"]
    assert (answer.status, error["code"], error["details"]["field"]) == (400, "invalid_request", "prompt")
    assert error["message"]
    assert error["details"]["issue"]


def test_the_openai_sdk_with_the_documented_base_url(one: Server) -> None:
    with openai.OpenAI(base_url=f"{one.url}/openai/v1".replace("127.0.0.1", "localhost"), api_key="any") as client:
        answer = client.chat.completions.create(model="claude", messages=HELLO)  # type: ignore[arg-type]
        assert answer.choices[0].message.content == "You said: hello"
        assert (answer.object, answer.choices[0].finish_reason) == ("chat.completion", "stop")


def test_a_stream_of_openai_ends_with_done(one: Server) -> None:
    body = {"model": "claude", "messages": HELLO, "stream": True}
    with one.client.open("POST", "/openai/v1/chat/completions", body) as stream:
        assert [line.data for line in stream.lines() if line.data][-1] == "data: [DONE]"


def test_the_anthropic_sdk_with_the_documented_base_url_and_an_old_model_name(one: Server, cli: FakeCli) -> None:
    with anthropic.Client(base_url=f"{one.url}/anthropic/v1", api_key="any") as client:
        asked = do(["say", "hi"], about="an old name")
        answer = client.messages.create(model="claude-3-sonnet-20240229", max_tokens=10, messages=[{"role": "user", "content": asked}])
    assert (answer.type, answer.role, answer.content[0].text) == ("message", "assistant", "hi")  # type: ignore[union-attr]
    (report,) = [report for report in cli.reports() if "an old name" in report["prompt"]]
    assert "--model=sonnet" in report["argv"]


def test_gpt_4_is_answered_by_codex_where_that_is_available(one: Server) -> None:
    answer = one.client.post("/openai/v1/chat/completions", {"model": "gpt-4", "messages": HELLO})
    assert (answer.headers["X-Clinvk-Backend"], answer.json["model"]) == ("codex", "gpt-4"), "differs: it was claude"


def test_models_are_listed_and_found_on_both_surfaces(one: Server) -> None:
    for path in ("/openai/v1/models", "/anthropic/v1/models"):
        assert "claude" in [model["id"] for model in one.client.get(path).json["data"]]
        assert one.client.get(f"{path}/claude").json["id"] == "claude"


def test_request_ids_and_cors(one: Server) -> None:
    answer = one.client.ask("GET", "/health", headers={"X-Request-ID": "mine-1", "Origin": "http://localhost:3000"})
    assert answer.headers["X-Request-ID"] == "mine-1"
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    foreign = one.client.ask("GET", "/health", headers={"Origin": "https://example.com"})
    assert "Access-Control-Allow-Origin" not in foreign.headers


def test_metrics_say_which_setting_switches_them_on(one: Server) -> None:
    answer = one.client.get("/metrics")
    assert answer.status == 404
    assert "server.metrics_enabled" in json.dumps(answer.json)


def test_keys_both_ways_and_a_rate_limit_for_each_key(server: ServerFactory, fake_cli: FakeCli) -> None:
    limits = {"rate_limit_enabled": True, "rate_limit_rps": 0.01, "rate_limit_burst": 1}
    config = {"default_backend": "demo", "server": limits}
    keyed = server(config, {"CLINVK_API_KEYS": f"{KEY},another-{KEY}"})
    assert keyed.client.get("/api/v1/backends").status == 401
    for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-Api-Key": KEY}):
        assert keyed.client.ask("GET", "/api/v1/backends", headers=headers).status == 200
    statuses = [keyed.client.ask("POST", "/api/v1/prompt", {"prompt": "hi"}, headers={"X-Api-Key": KEY}) for _ in range(2)]
    assert [answer.status for answer in statuses] == [200, 429]
    assert int(statuses[1].headers["Retry-After"]) > 0
    assert keyed.client.ask("POST", "/api/v1/prompt", {"prompt": "hi"}, headers={"X-Api-Key": f"another-{KEY}"}).status == 200


CONFIGURATION = {
    "default_backend": "claude",
    "unified_flags": {"approval_mode": "default", "sandbox_mode": "default", "verbose": False, "dry_run": False, "max_turns": 0, "max_tokens": 0},
    "backends": {"claude": {"model": "claude-opus-4-5-20251101", "allowed_tools": "all"}, "codex": {"model": "o3"}, "gemini": {"model": "gemini-2.5-pro"}},
    "session": {"auto_resume": True, "retention_days": 30, "store_token_usage": True, "default_tags": []},
    "output": {"format": "json", "show_tokens": False, "show_timing": False, "color": True},
    "server": {
        "host": "127.0.0.1", "port": 8080, "request_timeout_secs": 300, "read_timeout_secs": 30, "write_timeout_secs": 300,
        "idle_timeout_secs": 120, "api_keys_gopass_path": "", "rate_limit_enabled": False, "rate_limit_rps": 10, "rate_limit_burst": 20,
        "trusted_proxies": [], "max_request_body_bytes": 10485760, "cors_allowed_origins": [], "cors_allow_credentials": False,
        "cors_max_age": 300, "allowed_workdir_prefixes": [], "blocked_workdir_prefixes": [], "metrics_enabled": False,
    },
    "parallel": {"max_workers": 3, "fail_fast": False, "aggregate_output": True},
}  # fmt: skip


def test_the_documented_configuration_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIGURATION))
    settings = load_settings(str(file), environ={"HOME": str(tmp_path)})
    assert (settings.default_backend, settings.server.port, settings.parallel.max_workers) == ("claude", 8080, 3)
    assert {warning.key for warning in settings.warnings} <= {
        "session.auto_resume", "output", "output.format", "output.show_tokens", "output.show_timing", "output.color", "parallel.aggregate_output",
        "unified_flags.max_turns", "unified_flags.max_tokens", "backends.claude.allowed_tools",
    }  # fmt: skip


def test_a_gopass_path_without_gopass_stops_the_start_with_the_reason(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "CLINVK_API_KEYS_GOPASS_PATH": "clinvk/keys", "PATH": os.devnull}
    with pytest.raises(SettingsError, match="gopass"):
        load_keys(load_settings(environ=environ), environ)
