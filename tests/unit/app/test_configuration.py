"""What SIGHUP may change, and what it may not: the configuration read again. The server's side is in tests/server/test_hangup.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.config.problems import SettingsError
from app.config.schema import ServerSettings, SessionSettings, Settings
from app.config.validation import leaf_keys
from app.configuration import FIXED, Configuration
from app.security.api_keys import key_of_this_run
from services.access.key import THIS_RUN
from services.access.key_ring import KeyRing
from tests.parts.keys import ring_of

LONG_KEY = "y" * 32


@pytest.fixture(autouse=True)
def _no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLINVK_API_KEY", "CLINVK_API_KEYS"):
        monkeypatch.delenv(name, raising=False)


def configuration(new: Settings, *keys: str, **facts: Any) -> Configuration:
    return Configuration(settings=Settings(), keys=ring_of(*keys), read=lambda: new, **facts)


def test_what_was_bound_at_the_start_stays_and_is_named() -> None:
    server = ServerSettings(host="0.0.0.0", port=9, workers=2, max_concurrent_runs=3, api_keys=[f"a={LONG_KEY}"])
    new, postponed = configuration(Settings(server=server, session=SessionSettings(retention_days=1), home="/x")).again()
    assert postponed == ["server.host", "server.port", "server.workers", "session", "home"]
    assert new.settings.server == replace(ServerSettings(), max_concurrent_runs=3, api_keys=[f"a={LONG_KEY}"])
    assert (new.settings.session, new.settings.home, new.keys.names) == (SessionSettings(), Settings().home, ("a",))


def test_what_is_fixed_are_settings_that_there_are() -> None:
    known = {".".join(key) for key in leaf_keys()}
    assert {name for name in FIXED if name not in known} <= {"session"}


def test_settings_that_do_not_go_with_what_is_fixed_are_refused() -> None:
    two_workers = Settings(server=ServerSettings(workers=2))
    new = Settings(server=ServerSettings(workers=1, rate_limit_enabled=True))
    with pytest.raises(SettingsError, match="each worker would count for itself"):
        replace(configuration(new), settings=two_workers).again()


def test_a_server_for_everyone_does_not_lose_its_last_key() -> None:
    with pytest.raises(SettingsError, match="no key would be left"):
        configuration(Settings(), "old=first", is_local=False).again()


def test_the_key_that_was_made_for_this_run_stays_until_there_is_another() -> None:
    own = key_of_this_run("x")
    facts: dict[str, Any] = {"is_local": False, "key_of_this_run": own}
    made = replace(configuration(Settings(), **facts), keys=KeyRing([own]))
    assert made.again()[0].keys.names == (THIS_RUN,)
    other = replace(made, read=lambda: Settings(server=ServerSettings(api_keys=[f"new={LONG_KEY}"])))
    assert other.again()[0].keys.names == ("new",)


def test_the_key_of_the_command_that_is_served_stays_beside_others() -> None:
    own = key_of_this_run("x")
    new = Settings(server=ServerSettings(api_keys=[f"new={LONG_KEY}"]))
    private = replace(configuration(new, key_of_this_run=own, is_private=True), keys=KeyRing([own]))
    assert private.again()[0].keys.names == ("new", THIS_RUN)


def test_without_keys_stays_without_keys() -> None:
    new = Settings(server=ServerSettings(api_keys=[f"new={LONG_KEY}"]))
    assert not configuration(new, is_open=True).again()[0].keys
    assert not configuration(Settings(), "old=x").again()[0].keys  # on this machine alone, as it would be after a restart
