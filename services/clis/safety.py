"""What may stand in an argv, an environment, a JSON: a caller's text is checked here before it goes there. Raises InvalidRequest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from services.clis.spec import BackendSpec
from services.errors import InvalidRequest

SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}")
"""Model names and session ids as they may reach an argv: never a leading dash, nothing a shell or a path would read."""

# Linux refuses one argv string of 128 KiB (E2BIG; measured: 131,071 bytes pass, 131,072 fail).
ARGV_STRING_LIMIT_BYTES = 131_071


def safe_name(value: str, field: str) -> str:
    """``value`` if it may stand in an argv as a model name or session id. Raises InvalidRequest."""
    if not SAFE_NAME.fullmatch(value):
        issue = "must start with a letter or digit and hold only letters, digits and ._:/@[]- (at most 128)"
        raise InvalidRequest(f"{field} {value[:140]!r} {issue}", field=field, issue=issue)
    return value


def check_extra(spec: BackendSpec, extra: tuple[str, ...]) -> list[str]:
    """``extra`` as argv, each flag with its values as ``--flag=value``. Raises InvalidRequest for a flag not allowed."""
    argv: list[str] = []
    words = iter(extra)
    for word in words:
        flag, has_value, value = word.partition("=")
        arity = spec.allowed_extra.get(flag)
        if arity is None:
            allowed = ", ".join(sorted(spec.allowed_extra)) or "none"
            raise InvalidRequest(
                f"extra: backend {spec.name!r} does not allow {flag!r}; allowed: {allowed}", field="extra", issue="flag not allowed"
            )
        if not has_value and arity:
            value = next(words, "")
        if bool(value or has_value) != bool(arity):
            needs = "needs a value" if arity else "takes no value"
            raise InvalidRequest(f"extra: {flag} {needs}", field="extra", issue=needs)
        argv.append(f"{flag}={value}" if arity else flag)
    return argv


def check_strings(spec: BackendSpec, strings: tuple[str, ...]) -> None:
    """Of an argv or an environment. Raises InvalidRequest for one that no process can be given."""
    for part in strings:
        if "\0" in part:
            raise InvalidRequest("the request holds a NUL character, which no program argument can carry", issue="NUL character")
        if len(utf8(part, None)) > ARGV_STRING_LIMIT_BYTES:
            raise InvalidRequest(
                f"backend {spec.name!r} takes this value as an argument, which the system limits to {ARGV_STRING_LIMIT_BYTES} bytes",
                issue="value too long for an argument",
            )


def check_json(fields: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for what the request carries that no JSON can: half a surrogate pair, nesting without end."""
    try:
        orjson.dumps(fields)
    except TypeError as error:
        raise InvalidRequest(f"the request contains a value that cannot be encoded as JSON: {error}", issue=str(error)) from None


def utf8(text: str, field: str | None) -> bytes:
    """``text`` as bytes. JSON can carry half of a surrogate pair, which is no text. Raises InvalidRequest."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        issue = "half of a surrogate pair"
        raise InvalidRequest(f"{field or 'the request'} contains an invalid character: {issue}", field=field, issue=issue) from None
