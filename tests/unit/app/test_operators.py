"""What the operator reads: the banner, notes, and reasons."""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path

import pytest

from app.backends import build_backends
from app.cli.doctor import examine
from app.config.load import load_settings
from app.config.problems import SettingsError
from app.config.schema import ServerSettings, Settings
from app.security.api_keys import load_keys, notes_on
from app.server.banner import backend_lines, modes_of, opening
from app.server.shared_state import notes
from services.clis.probe import Availability
from services.clis.registry import BUILT_IN
from services.errors import WorkdirNotAllowed
from services.events import Failed, Finished, for_callers
from services.workdir import WorkdirRules
from tests.parts.keys import ring_of


def test_the_banner_has_both_base_urls_and_something_to_try() -> None:
    text = opening(Settings(), "http://127.0.0.1:8080", "for tests")
    assert "  openai    http://127.0.0.1:8080/openai/v1\n" in text
    assert "  anthropic http://127.0.0.1:8080/anthropic\n" in text
    assert 'clinvk prompt -b demo "Say hello"' in text


def test_the_banner_says_which_modes_are_in_force_and_how_to_log_in() -> None:
    specs = list(build_backends(load_settings(environ={"HOME": "/nowhere", "CLINVK_UNIFIED_FLAGS__APPROVAL_MODE": "auto"})).values())
    found = [Availability(name=spec.name, available=True, version="1.2", logged_in=False if spec.credentials else None) for spec in specs]
    claude, *_, demo = backend_lines(specs, found, "claude").splitlines()
    assert "claude  1.2; approval_mode auto" in claude
    assert "; probably not logged in: run `claude` and `/login`, or set ANTHROPIC_API_KEY" in claude
    assert demo.strip() == "demo    1.2", "it has neither modes nor a log-in"
    assert modes_of(BUILT_IN["demo"]) == ""


def test_a_prefix_that_does_not_exist_is_noted_and_a_run_without_workdir_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    settings = Settings(server=ServerSettings(allowed_workdir_prefixes=[missing, str(tmp_path)]))
    assert notes(settings) == [f"server.allowed_workdir_prefixes: {missing} is not an existing folder"]
    with pytest.raises(WorkdirNotAllowed, match="is the default workdir, but is not an existing folder"):
        WorkdirRules([missing]).check(None)


@pytest.mark.parametrize("word", ["secret", "password", "abc123"])
def test_keys_of_examples_are_refused_in_every_form(word: str) -> None:
    for entry in (word, f"ci={word}", f"ci=sha256:{sha256(word.encode()).hexdigest()}"):
        with pytest.raises(SettingsError, match="is the key of an example or easily guessed") as raised:
            load_keys(Settings(server=ServerSettings(api_keys=[entry])), {})
        assert word not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_short_keys_are_refused_on_every_address(host: str) -> None:
    server = ServerSettings(host=host, api_keys=["anna=0123456789abcde", "bob=0123456789abcdef", f"carl=sha256:{sha256(b'x').hexdigest()}"])
    with pytest.raises(SettingsError) as raised:
        load_keys(Settings(server=server), {})
    (problem,) = raised.value.problems
    assert str(problem).startswith("server.api_keys[0]: is shorter than 16 characters")
    assert "0123456789abcde" not in str(problem)


def test_keys_without_an_admin_are_noted() -> None:
    (note,) = notes_on(ring_of("anna=0123456789abcdef"))
    assert "none is an admin" in note
    assert "clinvk keys create NAME --role admin" in note
    assert f"  note      {note}" in opening(Settings(), "http://127.0.0.1:8080", "for tests", notes_on_keys=[note])
    assert notes_on(ring_of("anna=0123456789abcdef", role="admin")) == notes_on(ring_of()) == []


def test_the_doctor_says_it_of_a_short_key_and_of_no_admin(tmp_path: Path) -> None:
    def findings(*keys: str) -> list[tuple[str, bool]]:
        settings = Settings(home=str(tmp_path), server=ServerSettings(port=0, api_keys=[*keys]))
        found = examine(lambda: settings).findings
        return [(item.name, item.is_good) for item in found if "shorter than 16 characters" in item.text or "none is an admin" in item.text]

    assert findings("anna=0123456789abcde") == [("configuration", False)]
    assert findings("anna=0123456789abcdef") == [("note", True)]


def test_a_cli_that_is_not_logged_in_is_reported_with_what_to_do_on_the_server() -> None:
    failed = Failed("not_logged_in", "Not logged in · Please run /login sk-ant-api03-0123456789abcdefghijklmnop", 1)
    told = for_callers(failed, None, "claude", "run `claude` and `/login`, or set ANTHROPIC_API_KEY")
    assert isinstance(told, Failed)
    assert told.message.startswith(
        "claude is not logged in on the server: run `claude` and `/login`, or set ANTHROPIC_API_KEY as the server's user"
    )
    assert "(the CLI said: Not logged in" in told.message
    assert "0123456789abcdefghij" not in told.message
    other = replace_kind(failed)
    assert for_callers(other, None, "claude", "hint").message.startswith("Not logged in")  # type: ignore[union-attr]
    assert for_callers(Finished(0), None, "claude", "hint") == Finished(0)


@pytest.mark.parametrize(
    ("model", "lead"), [("opus-9", "claude does not accept the model 'opus-9'"), (None, "claude does not accept its default")]
)
def test_the_answer_to_an_unknown_model_names_our_field_before_the_cli_s_option(model: str | None, lead: str) -> None:
    failed = Failed("unknown_model", "There's an issue with the selected model. Run --model to pick a different model.", 1)
    told = for_callers(failed, None, "claude", "", model)
    assert isinstance(told, Failed)
    assert told.message.startswith(lead)
    assert told.message.index("name another in `model` (`clinvk prompt -m MODEL`)") < told.message.index("(the CLI said: There's an issue")


def replace_kind(failed: Failed) -> Failed:
    return Failed("backend", failed.message, failed.exit_code)


def test_a_missing_package_is_named_as_this_interpreter_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.config.checks.find_spec", lambda name: None)
    for variable, package in (("RATE_LIMIT_STORAGE", "redis"), ("TRACING_ENABLED", "opentelemetry-sdk")):
        value = "redis://127.0.0.1/0" if package == "redis" else "true"
        with pytest.raises(SettingsError) as raised:
            load_settings(environ={"HOME": "/nowhere", f"CLINVK_SERVER__{variable}": value})
        assert f"{sys.executable} -m pip install {package}" in str(raised.value)
