"""A command line as it may be shown to callers: what looks like a credential is replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from services.redaction import REDACTED, redact

SECRET_NAME = re.compile(r"(^|[-_.])(api-?key|key|token|secret|passw(or)?d|pass|pwd|credentials?|auth|authorization|bearer|cookie)$", re.I)
"""The name of a flag, a setting or a variable whose value is a credential: the word stands last (``--api-key``, ``X_AUTH_TOKEN``)."""

NAMED_VALUE = re.compile(r"(?P<name>[\w.-]+)(?P<sign>\s*[=:]\s*)(?P<value>\S.*)", re.DOTALL)


def redacted_argv(argv: Iterable[str], env: Mapping[str, str]) -> list[str]:
    """``argv`` without credentials: values of variables of ``env`` with a secret's name, of flags and settings with one, and words
    that have a credential's form."""
    secrets = sorted((value for name, value in env.items() if value and SECRET_NAME.search(name)), key=len, reverse=True)
    shown: list[str] = []
    follows_secret_flag = False
    for part in argv:
        if follows_secret_flag and not part.startswith("-"):
            shown.append(REDACTED)
        else:
            for secret in secrets:
                part = part.replace(secret, REDACTED)
            shown.append(_redacted(part))
        follows_secret_flag = part.startswith("-") and "=" not in part and bool(SECRET_NAME.search(part))
    return shown


def _redacted(part: str) -> str:
    named = NAMED_VALUE.fullmatch(part)
    if named and SECRET_NAME.search(named["name"]):
        return f"{named['name']}{named['sign']}{REDACTED}"
    if named and named["sign"] == "=":  # --header=X-Api-Key: value
        return f"{named['name']}={_redacted(named['value'])}"
    return redact(part)
