"""Loads the API keys of the configuration, the environment and gopass. Only digests of them are kept in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

from app.config.problems import Problem, SettingsError
from app.config.schema import Settings
from app.security.gopass import ask_gopass
from app.security.key_entries import Entry, EntryReader
from services.access.key import THIS_RUN, Key, Source, new_secret, to_digest, why_no_name
from services.access.key_ring import KeyRing
from services.access.rights import UNLIMITED
from services.clis.registry import BUILT_IN


def load_keys(settings: Settings, environ: Mapping[str, str] = os.environ, *, stored: Collection[str] = ()) -> KeyRing:
    """The keys from all sources. ``stored``: the names of the store's keys, which these must not have. Raises SettingsError, which
    never contains a key."""
    reader = EntryReader(known_backends(settings), stored)
    reader.read(Entry(form, f"server.api_keys[{index}]") for index, form in enumerate(settings.server.api_keys))
    reader.read(_listed(environ.get("CLINVK_API_KEYS", ""), "CLINVK_API_KEYS", "environment"))
    if single := environ.get("CLINVK_API_KEY", "").strip():
        reader.read([Entry(single, "CLINVK_API_KEY", "environment", may_be_named=False)])
    problems: list[Problem] = []
    if path := settings.server.api_keys_gopass_path:
        try:
            reader.read(_listed(ask_gopass(path, environ), "server.api_keys_gopass_path", "config"))
        except SettingsError as error:
            problems += [Problem(settings.source_of(problem.key), problem.key, problem.message) for problem in error.problems]
    problems = [Problem(settings.source_of(key), key, message) for key, message in reader.problems] + problems
    if problems:
        raise SettingsError(problems)
    return KeyRing(reader.keys.values())


def known_backends(settings: Settings) -> list[str]:
    return [*BUILT_IN, *(name for name in settings.backends if name not in BUILT_IN)]


def key_of_this_run(secret: str) -> Key:
    """A key of whoever started the server, and therefore an admin's."""
    return Key(name=THIS_RUN, digests=(to_digest(secret),), rights=UNLIMITED)


def new_entry(name: str) -> tuple[str, str]:
    """A new key, and its entry for the configuration. Raises SettingsError for an invalid name."""
    if problem := why_no_name(name):
        raise SettingsError([Problem("", "", problem)])
    secret = new_secret()
    return secret, f"{name}=sha256:{to_digest(secret).hex()}"


def notes_on(keys: KeyRing) -> list[str]:
    """A note where nobody can do what only an admin may. ``keys``: of the store too."""
    if not keys or keys.has_admin:
        return []
    return [
        "API keys: none is an admin, so nobody can make keys, see everybody's sessions or read /metrics; "
        "make one with `clinvk keys create NAME --role admin`, or write `role: admin` into its entry"
    ]


def _listed(text: str, setting: str, source: Source) -> list[Entry]:
    """The entries of a list in ``text``, each with its position, counted from 0 as in `server.api_keys[0]`."""
    words = [word.strip() for word in re.split(r"[,\n]", text) if word.strip()]
    return [Entry(word, f"{setting}[{index}]", source) for index, word in enumerate(words)]
