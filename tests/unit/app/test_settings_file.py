"""The configuration file: what it may say, and that every mistake is named with its place."""

from __future__ import annotations

import json

import pytest

from app.config.load import SettingsError, load_settings


@pytest.fixture
def load(tmp_path):
    def load(text, environ=None, overrides=None):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return load_settings(str(file), environ={"HOME": str(tmp_path), **(environ or {})}, overrides=overrides)

    return load


@pytest.fixture
def problems(load):
    """What the load of a text complains about, without the file's name: `line:column: key: message`."""

    def problems(text, **more):
        with pytest.raises(SettingsError) as caught:
            load(text, **more)
        return [str(problem).partition("config.yaml:")[2] or str(problem) for problem in caught.value.problems]

    return problems


def test_every_key_of_the_original_program_is_read(load):
    settings = load(
        """
default_backend: codex
unified_flags: {approval_mode: auto, sandbox_mode: workspace, verbose: true, dry_run: false, max_turns: 5, max_tokens: 1000,
                command_timeout_secs: 60}
backends:
  claude: {model: opus, allowed_tools: "Read,Edit", approval_mode: none, sandbox_mode: full, enabled: false, system_prompt: Hi, extra_flags: [--x]}
  gemini: {allowed_tools: [a, b]}
session: {retention_days: 7, store_token_usage: false, default_tags: [a]}
server:
  {host: 0.0.0.0, port: 9000, request_timeout_secs: 1.5, read_timeout_secs: 2, write_timeout_secs: 3, idle_timeout_secs: 4,
   api_keys_gopass_path: a/b, rate_limit_enabled: true, rate_limit_rps: 5, rate_limit_burst: 6, trusted_proxies: [10.0.0.0/8, "::1"],
   max_request_body_bytes: 1000, cors_allowed_origins: ["https://a.example"], cors_allow_credentials: true, cors_max_age: 0,
   allowed_workdir_prefixes: [~/work], blocked_workdir_prefixes: [/a], metrics_enabled: true}
parallel: {max_workers: 2, fail_fast: true}
"""
    )
    assert settings.default_backend == "codex"
    assert settings.unified_flags.command_timeout_secs == 60.0
    assert settings.backends["claude"].allowed_tools == "Read,Edit"
    assert settings.backends["gemini"].allowed_tools == ["a", "b"]
    assert settings.session.default_tags == ["a"]
    assert settings.server.request_timeout_secs == 1.5
    assert settings.server.blocked_workdir_prefixes == ["/a"]
    assert settings.parallel.fail_fast is True


def test_home_in_a_path_is_expanded(load, tmp_path):
    assert load("server: {allowed_workdir_prefixes: [~/work, /srv]}").server.allowed_workdir_prefixes == [f"{tmp_path}/work", "/srv"]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "server:\nbackends:\n", "backends:\n  claude:\n"])
def test_a_file_or_group_without_content_is_the_defaults(load, text):
    assert load(text).server.port == 8080


def test_a_setting_knows_where_it_was_set(load):
    settings = load("server:\n  port: 9000\n", environ={"CLINVK_SERVER__HOST": "::1"}, overrides={"server.workers": 2})
    assert settings.source_of("server.port").endswith("config.yaml:2:3")
    assert settings.source_of("server.host") == "CLINVK_SERVER__HOST"
    assert settings.source_of("server.workers") == "command line"
    assert settings.source_of("server.workers[0]") == "command line"
    assert settings.source_of("parallel.max_workers") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prot: 1", "1:1: prot: unknown key; did you mean 'server.port'?"),
        ("server:\n  prot: 1", "2:3: server.prot: unknown key; did you mean 'port'?"),
        ("port: 1", "1:1: port: unknown key; did you mean 'server.port'?"),
        ("unified_flags: {max_workers: 1}", "1:17: unified_flags.max_workers: unknown key; did you mean 'parallel.max_workers'?"),
        ("Server: {}", "1:1: Server: unknown key; did you mean 'server'?"),
        ("backends: {claude: {modle: x}}", "1:21: backends.claude.modle: unknown key; did you mean 'model'?"),
        ("home: /x", "1:1: home: is where the file lies; set CLINVK_HOME instead"),
        (
            "kafka: {}",
            "1:1: kafka: unknown key; known here: backends, default_backend, parallel, prices, runs, server, session, unified_flags, usage",
        ),
    ],
)
def test_an_unknown_key_is_named_with_a_suggestion(problems, text, expected):
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server: {port: eighty}", "1:16: server.port: expected a whole number from 0 to 65535, got the text 'eighty'"),
        ("server: {port: 80.5}", "1:16: server.port: expected a whole number from 0 to 65535, got the number 80.5"),
        ("server: {port: 65536}", "1:16: server.port: expected a whole number from 0 to 65535, got the number 65536"),
        ("server: {port: -1}", "1:16: server.port: expected a whole number from 0 to 65535, got the number -1"),
        ("server: {port: yes}", "1:16: server.port: expected a whole number from 0 to 65535, got the boolean yes"),
        ("server: {port: 010}", "1:16: server.port: expected a plain decimal number or a text in quotes, got 010"),
        ("server: {port: 0x50}", "1:16: server.port: expected a plain decimal number or a text in quotes, got 0x50"),
        ("server: {port: }", "1:15: server.port: expected a whole number from 0 to 65535, got nothing"),
        ("server: {port: [1]}", "1:16: server.port: expected a whole number from 0 to 65535, got a list"),
        ("server: {port: {a: 1}}", "1:16: server.port: expected a whole number from 0 to 65535, got a table"),
        (
            "server: {read_timeout_secs: 30s}",
            "1:29: server.read_timeout_secs: expected a number above 0, got the text '30s'; write the number alone",
        ),
        ("server: {read_timeout_secs: 1:30}", "1:29: server.read_timeout_secs: expected a plain decimal number or a text in quotes, got 1:30"),
        ("server: {queue_timeout_secs: 0}", "1:30: server.queue_timeout_secs: expected a number above 0, got the number 0"),
        ("server: {read_timeout_secs: .inf}", "1:29: server.read_timeout_secs: expected a plain decimal number or a text in quotes, got .inf"),
        ("server: {metrics_enabled: please}", "1:27: server.metrics_enabled: expected true or false, got the text 'please'"),
        ("server: {metrics_enabled: 1}", "1:27: server.metrics_enabled: expected true or false, got the number 1"),
        ("server: {api_keys: k}", "1:20: server.api_keys: expected a list of texts and tables, got a single value"),
        ("server: {trusted_proxies: }", "1:26: server.trusted_proxies: expected a list of texts, got nothing; write [] for an empty list"),
        ("server: {allowed_hosts: [a, 5]}", "1:29: server.allowed_hosts[1]: expected text, got the number 5; put it in quotes"),
        ("default_backend: no", "1:18: default_backend: expected text, got the boolean no; put it in quotes"),
        ("server: 8080", "1:9: server: expected a table (key: value), got a single value"),
        ("backends: [claude]", "1:11: backends: expected a table (key: value), got a list"),
        ("- a", "1:1: expected a table (key: value), got a list"),
        ("backends: {claude: {allowed_extra: {--x: 2}}}", "1:42: backends.claude.allowed_extra.--x: expected a whole number from 0 to 1, got the number 2"),
    ],
)  # fmt: skip
def test_a_wrong_type_or_range_says_what_was_expected(problems, text, expected):
    assert problems(text) == [expected]


@pytest.mark.parametrize("word", ["on", "yes", "true", "True"])
def test_the_words_of_yaml_for_true(load, word):
    assert load(f"server: {{metrics_enabled: {word}}}").server.metrics_enabled is True


def test_a_choice_lists_what_it_may_be(problems):
    assert problems("unified_flags: {approval_mode: yolo}") == [
        "1:32: unified_flags.approval_mode: expected one of default, auto, none, always, got the text 'yolo'"
    ]
    assert problems("unified_flags: {sandbox_mode: off}")[0].endswith("got the boolean off; put it in quotes")


def test_all_problems_are_reported_at_once(problems):
    found = problems("a_key: 1\nserver:\n  port: x\n  workers: 0\n", environ={"CLINVK_NOPE": "1"}, overrides={"parallel.max_workers": 0})
    assert [line.split(" ")[0] for line in found] == ["1:1:", "3:9:", "4:12:", "environment:", "command"]


def test_a_key_given_twice_is_an_error(problems):
    assert problems("server:\n  port: 1\n  host: a\n  port: 2\n") == ["4:3: server.port: is given twice, first in line 2; keep one"]


def test_what_is_no_yaml_is_named_with_its_place(problems):
    (found,) = problems("server:\n  port: [1\n")
    assert found.startswith("3:1: is not valid YAML: a comma or the closing ] is missing")


@pytest.mark.parametrize("text", ["a: 1\n---\nb: 2\n", "server: {host: \x01}"])
def test_other_unreadable_yaml_is_a_problem_too(problems, text):
    assert "is not valid YAML" in problems(text)[0]


@pytest.mark.parametrize("text", ["default_backend: !!python/name:os.system x", "default_backend: !secret x"])
def test_a_tag_builds_nothing(problems, text):
    assert "which is not supported" in problems(text)[0]


def test_an_anchor_that_holds_itself_ends(problems):
    assert "holds itself" in problems("backends: {x: {custom: &a {b: *a}}}")[0]


def test_merge_keys_are_refused(problems):
    assert "merge keys" in problems("server: {<<: {port: 1}}")[0]


def test_anchors_work(load):
    settings = load("backends:\n  claude: {env: &e {A: b}}\n  codex: {env: *e}\n")
    assert settings.backends["codex"].env == {"A": "b"}


def test_a_custom_declaration_is_plain_data_with_places(load):
    settings = load("backends:\n  mine:\n    custom:\n      options:\n        model: [--model, '{}', 1, yes, null]\n")
    assert settings.backends["mine"].custom == {"options": {"model": ["--model", "{}", 1, True, None]}}
    assert settings.source_of("backends.mine.custom.options.model").endswith(":5:9")


def test_a_secret_is_shown_neither_in_a_problem_nor_in_a_repr(problems, load):
    assert not [line for line in problems("server: {api_keys: [12345]}\nbackends: {claude: {env: {A: 12345}}}") if "12345" in line]
    assert "12345" not in " ".join(problems("server: {api_keys: '12345'}"))
    settings = load("server: {api_keys: [top-secret]}\nbackends: {claude: {env: {A: top-secret}}}")
    assert "top-secret" not in repr(settings)


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path):
    missing = str(tmp_path / "no.yaml")
    with pytest.raises(SettingsError, match=r"no\.yaml: cannot be read: No such file"):
        load_settings(missing, environ={})
    with pytest.raises(SettingsError, match=r"no\.yaml: cannot be read: No such file"):
        load_settings(environ={"CLINVK_CONFIG": missing})


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(SettingsError, match="Is a directory"):
        load_settings(str(tmp_path), environ={})


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_webhooks_are_a_list_of_tables(load):
    text = f"runs: {{webhooks: [{{url: 'https://a.example', secret: {SECRET}}}, {{url: 'https://b.example', events: [response.failed]}}], webhook_secret: {SECRET}}}"
    first, second = load(text).runs.webhooks
    assert (first.url, first.secret, first.events) == ("https://a.example", SECRET, [])
    assert (second.url, second.secret, second.events) == ("https://b.example", "", ["response.failed"])
    assert SECRET not in repr(first)


@pytest.mark.parametrize(("webhooks", "key", "told"), [
    ("{url: x}", "runs.webhooks", "expected a list of tables, got a table"),
    ("[x]", "runs.webhooks[0]", "expected a table"),
    ("[{uri: x}]", "runs.webhooks[0].uri", "did you mean 'url'"),
    ("[{url: 3}]", "runs.webhooks[0].url", "expected text"),
    ("[{url: 'http://a.example'}]", "runs.webhooks[0].url", "https"),
    ("[{url: 'https://a.example', events: [run.completed]}]", "runs.webhooks[0].events", "is not an event"),
    ("[{url: 'https://a.example', secret: whsec_x}]", "runs.webhooks[0].secret", "expected whsec_"),
])  # fmt: skip
def test_a_mistake_in_a_webhook_is_named_with_its_place(problems, webhooks, key, told):
    (problem,) = problems(f"runs:\n  webhook_secret: {SECRET}\n  webhooks: {webhooks}\n")
    assert problem.startswith("3:")
    assert f" {key}: " in problem
    assert told in problem


def test_a_webhook_without_any_secret_is_refused(problems):
    (problem,) = problems("runs: {webhooks: [{url: 'https://a.example'}]}")
    assert "runs.webhooks[0].secret: expected whsec_" in problem


@pytest.mark.parametrize("secret", ["whsec_x", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS"])
@pytest.mark.parametrize("more", ["", "  webhooks: [{url: 'https://a.example'}]\n"])
def test_a_malformed_secret_of_webhooks_is_named_once(problems, secret, more):
    (problem,) = problems(f"runs:\n  webhook_secret: {secret}\n{more}")
    assert problem.startswith("2:")
    assert "runs.webhook_secret: expected whsec_" in problem
    assert secret not in problem


@pytest.mark.parametrize(
    "host",
    ["https://a.example", "a.example:8080", "a.example/hook", "127.0.0.1:80", "[::1]:80", "*.example", "me@a.example", "a b", "", "127.1"],
)
def test_a_host_of_webhooks_that_never_matches_is_named_with_its_place(problems, host):
    (problem,) = problems(f"runs:\n  webhook_allowed_hosts: [b.example, '{host}']\n")
    assert problem.startswith("2:")
    assert f"runs.webhook_allowed_hosts[1]: expected a host name or an address, without a scheme, port or path, got {host!r}" in problem


def test_hosts_of_webhooks_are_names_and_addresses(load):
    hosts = ["hooks", "A.example.", "127.0.0.1", "::1", "[::1]", "10.0.0.7", "localhost"]
    assert load(f"runs: {{webhook_allowed_hosts: {json.dumps(hosts)}}}").runs.webhook_allowed_hosts == hosts


def test_webhooks_are_for_the_file_alone(problems):
    assert problems("", environ={"CLINVK_RUNS__WEBHOOKS": "https://a.example"}) == [
        "environment: CLINVK_RUNS__WEBHOOKS: can only be set in the configuration file"
    ]
