"""Which source wins, what the environment may say, and what does not go together."""

from __future__ import annotations

import pytest

from app.config.environment import read_environment, variable
from app.config.load import SettingsError, load_settings
from app.config.schema import Settings
from app.config.validation import Items, Value, leaf_keys, node_at


def load(environ=None, **more):
    return load_settings(environ={"HOME": "/nowhere", **(environ or {})}, **more)


def problems(environ=None, **more):
    with pytest.raises(SettingsError) as caught:
        load(environ, **more)
    return [str(problem) for problem in caught.value.problems]


def test_no_source_at_all_is_the_defaults():
    assert load() == Settings(home="/nowhere/.clinvk")


def test_the_default_file_is_read_where_it_exists(tmp_path):
    (tmp_path / ".clinvk").mkdir()
    (tmp_path / ".clinvk" / "config.yaml").write_text("server: {port: 1}")
    settings = load({"HOME": str(tmp_path)})
    assert settings.server.port == 1
    assert settings.config_file == f"{tmp_path}/.clinvk/config.yaml"
    assert load({"HOME": "/nowhere", "CLINVK_HOME": f"{tmp_path}/.clinvk"}).server.port == 1


def test_command_line_over_environment_over_file_over_default(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("server: {port: 1, host: file, workers: 4}")
    environ = {"CLINVK_SERVER__PORT": "2", "CLINVK_SERVER__HOST": "env", "CLINVK_CONFIG": "/no/such/file"}
    server = load(environ, config_path=str(file), overrides={"server.port": "3", "server.host": None}).server
    assert (server.port, server.host, server.workers, server.worker_connections) == (3, "env", 4, 10_000)


def test_tables_of_several_sources_are_merged_by_key(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("backends: {claude: {model: a, env: {A: '1', B: '2'}}}")
    claude = load({"CLINVK_BACKENDS__CLAUDE__ENV__B": "3", "CLINVK_BACKENDS__CLAUDE__ENV__lower": "x"}, config_path=str(file)).backends[
        "claude"
    ]
    assert claude.env == {"A": "1", "B": "3", "lower": "x"}
    assert claude.model == "a"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("CLINVK_DEFAULT_BACKEND", "codex", lambda s: s.default_backend == "codex"),
        ("CLINVK_BACKEND", "codex", lambda s: s.default_backend == "codex"),
        ("CLINVK_CLAUDE_MODEL", "opus", lambda s: s.backends["claude"].model == "opus"),
        ("CLINVK_CODEX_MODEL", "m", lambda s: s.backends["codex"].model == "m"),
        ("CLINVK_GEMINI_MODEL", "m", lambda s: s.backends["gemini"].model == "m"),
        ("CLINVK_BACKENDS__CLAUDE__MODEL", "opus", lambda s: s.backends["claude"].model == "opus"),
        ("CLINVK_BACKENDS__CLAUDE__ENABLED", "off", lambda s: s.backends["claude"].enabled is False),
        ("CLINVK_API_KEYS_GOPASS_PATH", "a/b", lambda s: s.server.api_keys_gopass_path == "a/b"),
        ("CLINVK_SERVER__PORT", "0", lambda s: s.server.port == 0),
        ("CLINVK_SERVER__READ_TIMEOUT_SECS", "2.5", lambda s: s.server.read_timeout_secs == 2.5),
        ("CLINVK_SERVER__METRICS_ENABLED", "TRUE", lambda s: s.server.metrics_enabled is True),
        ("CLINVK_SERVER__TRUSTED_PROXIES", "10.0.0.1, 10.0.0.2,", lambda s: s.server.trusted_proxies == ["10.0.0.1", "10.0.0.2"]),
        ("CLINVK_SERVER__ALLOWED_WORKDIR_PREFIXES", "~/a,/b", lambda s: s.server.allowed_workdir_prefixes == ["/nowhere/a", "/b"]),
        ("CLINVK_UNIFIED_FLAGS__MAX_TURNS", "3", lambda s: s.unified_flags.max_turns == 3),
        ("CLINVK_SERVER__PORT", "", lambda s: s.server.port == 8080),
        ("CLINVK_HOME", "~/x", lambda s: s.home == "/nowhere/x"),
    ],
)
def test_a_variable_sets_its_key(name, text, value):
    assert value(load({name: text}))


@pytest.mark.parametrize("path", [path for path in leaf_keys() if path != ("home",)], ids=".".join)
def test_every_key_has_a_variable(path):
    node = node_at(path)
    leaf = node.text if isinstance(node, Items) else node
    assert isinstance(leaf, Value)
    samples = {int: "7", float: "7.5", bool: "1", str: "/x", list: "/x" if leaf.is_path else "10.0.0.1"}
    found = read_environment({variable(path): leaf.choices[-1] if leaf.choices else samples[leaf.kinds[0]]})
    found.check(str)
    assert found.places == {path: variable(path)}
    assert not found.problems


def test_a_named_variable_wins_over_the_long_one():
    assert load({"CLINVK_BACKEND": "a", "CLINVK_DEFAULT_BACKEND": "b"}).default_backend == "a"


def test_a_variable_finds_a_backend_with_a_dash(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("backends: {my-cli: {model: a}}")
    backends = load({"CLINVK_BACKENDS__MY_CLI__MODEL": "b"}, config_path=str(file)).backends
    assert backends["my-cli"].model == "b"
    assert list(backends) == ["my-cli"]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("CLINVK_SERVER_PORT", "1", "environment: CLINVK_SERVER_PORT: unknown variable; did you mean 'CLINVK_SERVER__PORT'?"),
        ("CLINVK_CLAUDE_MODLE", "x", "environment: CLINVK_CLAUDE_MODLE: unknown variable; did you mean 'CLINVK_CLAUDE_MODEL'?"),
        ("CLINVK_PORT", "8080", "environment: CLINVK_PORT: unknown variable; did you mean 'CLINVK_SERVER__PORT'?"),
        (
            "CLINVK_BACKENDS__CLAUDE__MODLE",
            "x",
            "environment: CLINVK_BACKENDS__CLAUDE__MODLE: unknown variable; did you mean 'CLINVK_BACKENDS__CLAUDE__MODEL'?",
        ),
        ("CLINVK_SERVER__PORT", "x", "environment: CLINVK_SERVER__PORT: expected a whole number from 0 to 65535, got the text 'x'"),
        ("CLINVK_SERVER__PORT", "99999", "environment: CLINVK_SERVER__PORT: expected a whole number from 0 to 65535, got the number 99999"),
        (
            "CLINVK_SERVER__METRICS_ENABLED",
            "maybe",
            "environment: CLINVK_SERVER__METRICS_ENABLED: expected true or false, got the text 'maybe'",
        ),
        ("CLINVK_BACKENDS__X__CUSTOM", "{}", "environment: CLINVK_BACKENDS__X__CUSTOM: can only be set in the configuration file"),
    ],
)
def test_a_variable_that_is_unknown_or_does_not_fit_is_a_problem(name, text, expected):
    assert problems({name: text}) == [expected]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CLINVK_SERVICE_HOST", "10.0.0.1"),
        ("CLINVK_SERVICE_PORT_HTTP", "80"),
        ("CLINVK_PORT", "tcp://10.0.0.1:80"),
        ("CLINVK_PORT_8080_TCP_PORT", "8080"),
        ("CLINVK_SERVER_PORT", "tcp://10.0.0.1:80"),
        ("CLINVK_API_KEYS", "a,b"),
    ],
)
def test_variables_of_others_are_left_alone(name, text):
    assert load({name: text}).server.port == 8080


def test_an_override_that_does_not_fit_is_a_problem():
    assert (
        problems(overrides={"server.port": 70000})[0]
        == "command line: server.port: expected a whole number from 0 to 65535, got the number 70000"
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"server.cors_allowed_origins": ["*"], "server.cors_allow_credentials": True}, "cannot be true while server.cors_allowed_origins"),
        ({"server.cors_allowed_origins": ["example.com"]}, "expected an origin such as"),
        ({"server.cors_allowed_origins": ["https://example.com/path"]}, "expected an origin such as"),
        ({"server.workers": 2, "server.rate_limit_enabled": True}, "each worker would count for itself"),
        ({"server.rate_limit_storage": "mongodb://x"}, "expected memory:// or a redis:// address"),
        ({"server.trusted_proxies": ["my-proxy"]}, "expected an address or a network"),
        ({"server.allowed_hosts": ["http://x"]}, "expected a host name"),
        ({"server.host": " "}, "expected an address or a host name"),
        ({"server.workers": 2, "server.api_keys": [{"key": "k" * 16, "rate_limit_burst": 1}]}, "several times (server.api_keys[0])"),
        ({"server.allowed_workdir_prefixes": ["work"]}, "expected an absolute path, got 'work'"),
    ],
)
def test_what_does_not_go_together_or_has_no_form_is_refused(overrides, expected):
    (problem,) = problems(overrides=overrides)
    assert problem.startswith("command line: server.")
    assert expected in problem


def test_a_database_that_cannot_be_used_is_refused_without_its_password():
    (problem,) = problems(overrides={"session.database_url": "mysql://me:secret@h/d"})
    assert problem.startswith("command line: session.database_url: expected sqlite:///<absolute path> or postgresql://")
    assert "secret" not in problem


@pytest.mark.parametrize(
    "overrides",
    [
        {"server.cors_allowed_origins": ["*"]},
        {"server.workers": 2},
        {"server.workers": 2, "server.rate_limit_enabled": True, "server.rate_limit_storage": "redis://h:1/0"},
        {"server.workers": 2, "server.rate_limit_storage": "redis://h:1/0", "server.api_keys": [{"key": "k" * 16, "rate_limit_rps": 1}]},
        {"server.workers": 2, "server.api_keys": ["a=" + "k" * 16]},
    ],
)
def test_what_goes_together_is_accepted(overrides):
    assert load(overrides=overrides).server
