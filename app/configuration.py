"""The current configuration, and how it is reloaded while the server runs (SIGHUP)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from app.backends import build_backends
from app.config.checks import check_rates, check_together
from app.config.load import load_settings
from app.config.problems import Problem, SettingsError
from app.config.schema import Settings
from app.security.api_keys import load_keys
from app.security.hosts import is_loopback
from app.security.stored_keys import stored_keys
from services.access.key import Key
from services.access.key_ring import KeyRing

FIXED = {
    "server.host", "server.port", "server.workers", "server.worker_connections", "server.idle_timeout_secs", "server.shutdown_grace_secs",
    "server.metrics_enabled", "server.tracing_enabled", "home", "session",
}  # fmt: skip
"""Settings that are fixed when the processes start: a change takes effect at the next start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    settings: Settings
    keys: KeyRing
    """Without those of the store."""
    read: Callable[[], Settings] = load_settings
    is_open: bool = False
    """Authentication is disabled (--no-auth)."""
    is_local: bool = True
    """Bound to loopback only."""
    key_of_this_run: Key | None = None
    """Made for one run: it is in force until there is another, and beside others where one command is served."""
    is_private: bool = False
    """Serves a single command, with which it ends."""

    @classmethod
    def of(cls, settings: Settings, keys: KeyRing) -> Configuration:
        return cls(settings=settings, keys=keys, is_local=is_loopback(settings.server.host))

    def stored_keys(self) -> tuple[Key, ...]:
        """The keys of the store that are in force besides ``keys``, as they are now."""
        return () if self.is_open else stored_keys(self.settings)

    def again(self) -> tuple[Configuration, list[str]]:
        """The configuration read again, keys included, and which changes need a restart. On SettingsError this one stays in force."""
        settings, postponed = _keep_fixed(self.settings, self.read())
        if problems := check_together(settings):
            raise SettingsError(problems)
        build_backends(settings)
        if self.is_open:
            return replace(self, settings=settings), postponed
        stored = self.stored_keys()
        check_rates(settings, stored)
        keys = load_keys(settings, os.environ, stored=[key.name for key in stored])
        if self.key_of_this_run and (self.is_private or not keys):
            keys = KeyRing((*keys, self.key_of_this_run))
        if not keys and not stored and not self.is_local:
            message = f"no key would be left, and the server listens on {settings.server.host}: every request would be rejected"
            raise SettingsError([Problem("", "server.api_keys", message)])
        return replace(self, settings=settings, keys=keys), postponed


def _keep_fixed(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """``new`` with the old values of fixed settings, and the names of the fixed settings that differ."""
    server = {name: getattr(old.server, name) for name in _names(old.server) if f"server.{name}" in FIXED}
    postponed = [f"server.{name}" for name, value in server.items() if getattr(new.server, name) != value]
    groups = {name: getattr(old, name) for name in _names(old) if name in FIXED}
    postponed += [name for name, value in groups.items() if getattr(new, name) != value]
    return replace(new, server=replace(new.server, **server), **groups), postponed


def _names(group: Any) -> Iterable[str]:
    return (item.name for item in fields(group))
