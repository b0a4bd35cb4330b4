"""Loads API keys and matches a presented key against them. Only digests are kept in memory, each with a name."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import subprocess
from collections.abc import Iterable, Mapping
from hashlib import sha256

from app.config.environment import PREFIX
from app.config.problems import Problem, SettingsError
from app.config.schema import Settings

GOPASS_TIMEOUT_S = 30.0
"""Long enough for a pinentry dialog or a hardware token."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
NAMED = re.compile(rf"(?P<name>{NAME.pattern})=(?P<key>.*[^=].*)")
"""`name=key`. What follows the first `=` must be more than the padding of a base64 key."""

RESERVED = "local"
"""The caller's name if no keys are configured."""

THIS_RUN = "this-run"
"""The name of a key generated at startup because none was configured."""

NAME_DIGITS = 8
"""An unnamed key is called ``key-`` and this many hex digits of its SHA-256, wherever in a list it stands."""

WEAK_WORDS = ("secret", "password", "changeme", "change-me", "clinvk", "test", "admin", "abc123", "123456", "key", "api-key")
WEAK_DIGESTS = frozenset(sha256(word.encode()).digest() for word in WEAK_WORDS)
"""Digests of common guesses and of keys from examples, which are rejected in every form."""

MIN_CHARS = 16
"""A shorter plain key is accepted on loopback only."""

MAKE_ONE = "make one with `clinvk keys create NAME`"

DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
KEY = re.compile(r"[\x21-\x7e]+")


class KeyRing:
    """The active keys, by digest. An empty ring is false: no key is required."""

    def __init__(self, digests: Iterable[tuple[str, bytes]] = (), short: Iterable[str] = ()) -> None:
        self._digests = tuple(digests)
        self.short = tuple(short)
        """Names of plain keys with fewer than `MIN_CHARS` characters."""

    @classmethod
    def of(cls, *entries: str) -> KeyRing:
        """A ring from entries in the configuration's format. Raises SettingsError."""
        return _ring([(entry, "") for entry in entries])

    def find(self, presented: str) -> str | None:
        """The name of the key that ``presented`` matches, if any. Takes constant time."""
        digest = _digest(presented)
        found = None
        for name, known in self._digests:
            if hmac.compare_digest(digest, known) and found is None:
                found = name
        return found

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.names)})"


def load_keys(settings: Settings, environ: Mapping[str, str] = os.environ) -> KeyRing:
    """The keys from all sources. Raises SettingsError, which never contains a key."""
    entries = [(entry, f"server.api_keys[{index}]") for index, entry in enumerate(settings.server.api_keys)]
    entries += _listed(environ.get("CLINVK_API_KEYS", ""), "CLINVK_API_KEYS")
    entries += [(entry, "CLINVK_API_KEY") for entry in [environ.get("CLINVK_API_KEY", "").strip()] if entry]
    path = settings.server.api_keys_gopass_path
    try:
        if path:
            entries += _listed(ask_gopass(path, environ), "server.api_keys_gopass_path")
        return _ring(entries)
    except SettingsError as error:
        raise SettingsError([Problem(settings.source_of(item.key), item.key, item.message) for item in error.problems]) from None


def new_key() -> str:
    return secrets.token_urlsafe(32)


def new_entry(name: str) -> tuple[str, str]:
    """A new key, and its entry for the configuration. Raises SettingsError for an invalid name."""
    if not NAME.fullmatch(name):
        message = "is not a name for a key: expected at most 64 letters, digits, '_', '.' and '-', the first of them a letter"
        raise SettingsError([Problem("", "", f"{name!r} {message}")])
    key = new_key()
    entry = f"{name}=sha256:{_digest(key).hex()}"
    KeyRing.of(entry)
    return key, entry


def refuse_short_keys(keys: KeyRing) -> None:
    """Reject short keys on a server that other machines can reach. Raises SettingsError."""
    if keys.short:
        message = f"{', '.join(keys.short)}: shorter than {MIN_CHARS} characters, too short for a server that other machines can reach"
        raise SettingsError([Problem("", "API keys", f"{message}; {MAKE_ONE}")])


def notes_on(keys: KeyRing) -> list[str]:
    """A note on the short keys of a server that only this machine can reach."""
    if not keys.short:
        return []
    names = ", ".join(keys.short)
    return [f"API keys: {names}: shorter than {MIN_CHARS} characters, easy to guess and accepted on this machine only; {MAKE_ONE}"]


def ask_gopass(path: str, environ: Mapping[str, str]) -> str:
    """The secret at ``path``. Raises SettingsError with gopass's own error message."""

    def fail(message: str) -> SettingsError:
        return SettingsError([Problem("", "server.api_keys_gopass_path", message)])

    if path.startswith("-"):
        raise fail(f"expected a path, got {path!r}")
    try:
        done = subprocess.run(
            ["gopass", "show", "-o", path],
            env={name: value for name, value in environ.items() if not name.startswith(PREFIX)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=GOPASS_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise fail("needs the program gopass, which was not found on PATH; install it, or remove this setting") from None
    except OSError as error:
        raise fail(f"gopass cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise fail(f"gopass gave no answer within {GOPASS_TIMEOUT_S:g} s; does it wait for a passphrase?") from None
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise fail(f"gopass failed for {path!r} with exit code {done.returncode}" + (f": {words[-1]}" if words else ""))
    if not done.stdout.strip():
        raise fail(f"gopass has nothing at {path!r}")
    return done.stdout


def _ring(entries: Iterable[tuple[str, str]]) -> KeyRing:
    """``entries`` are (entry, setting) pairs. A repeated key counts once; two keys with the same name are an error."""
    digests: dict[bytes, str] = {}
    first: dict[str, str] = {}
    short: list[str] = []
    problems: list[Problem] = []
    for entry, source in entries:
        named = NAMED.fullmatch(entry) if source != "CLINVK_API_KEY" else None
        key = named["key"] if named else entry
        hashed = DIGEST.fullmatch(key)
        digest = bytes.fromhex(hashed[1]) if hashed else _digest(key)
        name = named["name"] if named else f"key-{digest.hex()[:NAME_DIGITS]}"
        if key.startswith("sha256:") and not hashed:
            problems.append(Problem("", source, "expected 64 hexadecimal digits after sha256:"))
        elif not KEY.fullmatch(key):
            problems.append(Problem("", source, "expected a key of printable ASCII characters without spaces"))
        elif source and digest in WEAK_DIGESTS:
            problems.append(Problem("", source, f"is the key of an example or easily guessed; {MAKE_ONE}"))
        elif name == RESERVED:
            problems.append(Problem("", source, f"the name {name!r} is reserved; choose another"))
        elif digest not in digests:
            if name in first:
                problems.append(Problem("", source, f"another key is named {name!r} ({first[name]}); give each key a name of its own"))
            digests[digest] = name
            if not hashed and len(key) < MIN_CHARS:
                short.append(name)
            first.setdefault(name, source)
    if problems:
        raise SettingsError(problems)
    return KeyRing(((name, digest) for digest, name in digests.items()), short)


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="replace")).digest()


def _listed(text: str, source: str) -> list[tuple[str, str]]:
    """The entries of a list in ``text``, each with its position, counted from 0 as in `server.api_keys[0]`."""
    words = [word.strip() for word in re.split(r"[,\n]", text) if word.strip()]
    return [(word, f"{source}[{index}]") for index, word in enumerate(words)]
