"""The configuration of the original clinvk, read as it is: its own example, what its `config set` writes, its variables."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from app.backends import build_backends
from app.config.go_clinvk import MEANINGLESS, UNSET
from app.config.load import SettingsError, load_settings
from app.config.schema import LOCAL_ORIGINS, SYSTEM_FOLDERS, Settings
from app.config.validation import leaf_keys, node_at

EXAMPLE = Path(__file__).parent / "original" / "config.yaml"


@pytest.fixture
def load(tmp_path):
    def load(text="", environ=None):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return load_settings(str(file), environ={"HOME": str(tmp_path), **(environ or {})})

    return load


def test_its_own_example_is_our_defaults_with_its_models(tmp_path):
    settings = load_settings(str(EXAMPLE), environ={"HOME": str(tmp_path)})
    ours = Settings()
    for group in ("unified_flags", "session", "parallel", "server"):
        assert asdict(getattr(settings, group)) == asdict(getattr(ours, group))
    backends = build_backends(settings)
    assert {name: backends[name].defaults for name in settings.backends} == {
        "claude": {"model": "claude-opus-4-5-20251101"},
        "codex": {"model": "o3"},
        "gemini": {"model": "gemini-2.5-pro"},
    }


def test_what_means_nothing_here_is_told_with_its_line_and_the_reason(tmp_path):
    warnings = [str(warning) for warning in load_settings(str(EXAMPLE), environ={"HOME": str(tmp_path)}).warnings]
    assert [line.partition("config.yaml:")[2].split(": ")[1] for line in warnings] == [
        "unified_flags.output_format", "session.auto_resume", "output", "parallel.aggregate_output", "server.rate_limit_cleanup_secs",
    ]  # fmt: skip
    assert all(line.endswith("; ignored") for line in warnings)
    assert "config.yaml:38:1: output: controls the original's terminal output" in warnings[2]


def test_an_empty_list_of_its_means_its_default(load):
    server = load("server: {cors_allowed_origins: [], blocked_workdir_prefixes: [], allowed_workdir_prefixes: []}").server
    assert server.cors_allowed_origins == list(LOCAL_ORIGINS)
    assert server.blocked_workdir_prefixes == list(SYSTEM_FOLDERS)
    assert server.allowed_workdir_prefixes == []


def test_no_limit_of_its_is_our_default_and_a_warning(load):
    settings = load("server: {request_timeout_secs: 0, max_request_body_bytes: 0}")
    assert settings.server.request_timeout_secs == 300
    assert settings.server.max_request_body_bytes == 10 * 1024 * 1024
    assert ["0 meant no limit in the original" in str(warning) for warning in settings.warnings] == [True, True]


def test_the_texts_that_its_config_set_writes_are_read(load):
    settings = load(
        """
server: {port: "3000", metrics_enabled: "true", request_timeout_secs: "60", trusted_proxies: "10.0.0.1, 10.0.0.2"}
session: {auto_resume: "true", retention_days: "7"}
"""
    )
    assert (settings.server.port, settings.server.metrics_enabled, settings.server.request_timeout_secs) == (3000, True, 60.0)
    assert settings.server.trusted_proxies == ["10.0.0.1", "10.0.0.2"]
    assert settings.session.retention_days == 7
    assert len(settings.warnings) == 6


@pytest.mark.parametrize("text", ["server: {port: '99999'}", "server: {port: ''}", "server: {api_keys: 'k'}", "server: {host: 5}"])
def test_a_text_that_is_no_such_value_is_refused_as_ever(load, text):
    with pytest.raises(SettingsError):
        load(text)


def test_its_variables_are_read_or_told(load):
    settings = load(environ={"CLINVK_BACKEND": "codex", "CLINVK_CODEX_MODEL": "o3", "CLINVK_MCP_PORT": "8081"})
    assert settings.default_backend == "codex"
    assert settings.backends["codex"].model == "o3"
    assert [str(warning) for warning in settings.warnings] == [
        "environment: CLINVK_MCP_PORT: configures the original's MCP server, which this program does not have; ignored"
    ]


def test_the_tables_name_no_key_of_ours_as_meaningless_and_only_such_as_unset():
    ours = {".".join(key) for key in leaf_keys()}
    assert not ours & set(MEANINGLESS)
    assert all(node_at(tuple(key.split("."))) for key in UNSET)
