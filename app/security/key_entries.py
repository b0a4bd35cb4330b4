"""Entries of the configuration → keys. An entry is a text, or a table with the key's rights. Reports every mistake, and never shows a key."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from app.config.problems import did_you_mean
from app.config.schema import BudgetSettings, KeySettings
from services.access.key import NAME, RESERVED, SECRETS_LIMIT, Key, Source, default_name, to_digest, to_moment, why_no_name
from services.access.rights import Rights
from services.access.rights_form import LISTS, to_rights, why_no_budget

NAMED = re.compile(rf"(?P<name>{NAME.pattern})=(?P<key>.*[^=].*)")
"""`name=key`. What follows the first `=` must be more than the padding of a base64 key."""

WEAK_WORDS = ("secret", "password", "changeme", "change-me", "clinvk", "test", "admin", "abc123", "123456", "key", "api-key")
WEAK_DIGESTS = frozenset(sha256(word.encode()).digest() for word in WEAK_WORDS)
"""Digests of common guesses and of keys from examples, which are rejected in every form."""

MIN_CHARS = 16
"""A shorter plain key can be guessed."""

MAKE_ONE = "make one with `clinvk keys entry NAME`"

DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
SECRET = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """``setting``: what problems with it name, as `server.api_keys[0]`."""

    form: str | KeySettings = field(repr=False)
    setting: str
    source: Source = "config"
    may_be_named: bool = True
    """Whether a text may be `name=key`."""


class EntryReader:
    """Reads entries one after the other: names and secrets are unique among them."""

    def __init__(self, backends: Collection[str], stored: Collection[str]) -> None:
        """``stored``: the names of the store's keys."""
        self._backends = backends
        self._stored = stored
        self.keys: dict[str, Key] = {}
        self.problems: list[tuple[str, str]] = []
        """(setting, message)."""
        self._settings: dict[str, str] = {}
        self._digests: set[bytes] = set()

    def read(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            before = len(self.problems)
            key = self._of_table(entry, entry.form) if isinstance(entry.form, KeySettings) else self._of_text(entry, entry.form)
            if key and len(self.problems) == before:
                self._add(key, entry)

    def _of_text(self, entry: Entry, text: str) -> Key | None:
        named = NAMED.fullmatch(text) if entry.may_be_named else None
        digest = self._digest(named["key"] if named else text, entry.setting)
        if digest is None or digest in self._digests:  # the same key twice is one key
            return None
        name = named["name"] if named else default_name(digest)
        if name in RESERVED:
            self._report(entry.setting, f"the name {name!r} is reserved; choose another")
        return Key(name=name, digests=(digest,), source=entry.source)

    def _of_table(self, entry: Entry, form: KeySettings) -> Key | None:
        digests = self._digests_of(form.key, f"{entry.setting}.key")
        if form.name and (problem := why_no_name(form.name)):
            self._report(f"{entry.setting}.name", problem)
        rights, expires_at = self.rights_of(form, entry.setting)
        if not digests:
            return None
        return Key(name=form.name or default_name(digests[0]), digests=digests, rights=rights, source=entry.source, expires_at=expires_at)

    def _digests_of(self, given: str | list[str], setting: str) -> tuple[bytes, ...]:
        """Of a table's secrets, without those with a problem."""
        secrets = given if isinstance(given, list) else [given] if given else []
        if not 1 <= len(secrets) <= SECRETS_LIMIT:
            self._report(setting, f"expected a key, or a list of up to {SECRETS_LIMIT}, got {len(secrets)}; {MAKE_ONE}")
        found: list[bytes] = []
        for index, secret in enumerate(secrets):
            place = f"{setting}[{index}]" if isinstance(given, list) else setting
            digest = self._digest(secret, place)
            if digest in self._digests or digest in found:
                self._report(place, "is given twice; give each key a secret of its own")
            elif digest:
                found.append(digest)
        return tuple(found)

    def rights_of(self, form: KeySettings, setting: str) -> tuple[Rights, int | None]:
        """The rights, and when they end. Both mean nothing if there is a problem."""
        mistakes = list(self._mistakes(form))
        for name, message in mistakes:
            self._report(f"{setting}.{name}" if setting else name, message)
        if mistakes:
            return Rights(), None
        return to_rights(to_form(form)), to_moment(form.expires_at) if form.expires_at else None

    def _mistakes(self, form: KeySettings) -> Iterator[tuple[str, str]]:
        for name in LISTS:
            if getattr(form, name) == []:
                yield name, "is empty; name what the key may use, or leave it out to restrict nothing"
        for index, backend in enumerate(form.backends or ()):
            if backend not in self._backends:
                yield f"backends[{index}]", f"unknown backend {backend!r}; {did_you_mean(backend, self._backends)}".rstrip("; ")
        if form.isolation == "worktree":
            yield "isolation", "this version has no worktrees; expected none or sandbox"
        if form.allow_mcp_servers is not None:
            yield "allow_mcp_servers", "this version passes no MCP servers on; remove it"
        several = isinstance(form.budget, list) and len(form.budget) > 1
        for index, budget in enumerate(_budgets(form)):
            if problem := why_no_budget(asdict(budget)):
                yield f"budget[{index}]" if several else "budget", problem
        if form.expires_at:
            try:
                to_moment(form.expires_at)
            except ValueError as error:
                yield "expires_at", str(error)

    def _digest(self, secret: str, setting: str) -> bytes | None:
        """None if there is a problem."""
        hashed = DIGEST.fullmatch(secret)
        digest = bytes.fromhex(hashed[1]) if hashed else to_digest(secret)
        if secret.startswith("sha256:") and not hashed:
            problem = "expected 64 hexadecimal digits after sha256:"
        elif not SECRET.fullmatch(secret):
            problem = "expected a key of printable ASCII characters without spaces"
        elif digest in WEAK_DIGESTS:
            problem = f"is the key of an example or easily guessed; {MAKE_ONE}"
        elif not hashed and len(secret) < MIN_CHARS:
            problem = f"is shorter than {MIN_CHARS} characters, so it can be guessed; {MAKE_ONE}"
        else:
            return digest
        self._report(setting, problem)
        return None

    def _add(self, key: Key, entry: Entry) -> None:
        if key.name in self.keys:
            message = f"another key is named {key.name!r} ({self._settings[key.name]}); give each key a name of its own"
            self._report(entry.setting, message)
        elif key.name in self._stored:
            message = (
                f"the session store has a key named {key.name!r} too; rename this one, or revoke that one: clinvk keys revoke {key.name}"
            )
            self._report(entry.setting, message)
        self.keys.setdefault(key.name, key)
        self._settings.setdefault(key.name, entry.setting)
        self._digests.update(key.digests)

    def _report(self, setting: str, message: str) -> None:
        self.problems.append((setting, message))


def to_form(form: KeySettings) -> dict[str, Any]:
    return {**asdict(form), "budget": [asdict(budget) for budget in _budgets(form)]}


def _budgets(form: KeySettings) -> list[BudgetSettings]:
    return form.budget if isinstance(form.budget, list) else [form.budget]
