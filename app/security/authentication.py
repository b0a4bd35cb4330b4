"""Authenticates a request by its API key. `app.security.api_keys` loads the keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from services.errors import AuthenticationFailed


class Keys(Protocol):
    """False if there are no keys: then no authentication is required."""

    def find(self, presented: str) -> str | None: ...
    def __len__(self) -> int: ...


def authenticate(environ: Mapping[str, Any], keys: Keys) -> str:
    """The name of the key that the request carries. Raises AuthenticationFailed."""
    is_presented = False
    for key in presented_keys(environ):
        is_presented = True
        if name := keys.find(key):
            return name
    if is_presented:
        raise AuthenticationFailed("this API key is not valid")
    raise AuthenticationFailed("API key required: send it as 'Authorization: Bearer <key>' or 'X-Api-Key: <key>'")


def presented_keys(environ: Mapping[str, Any]) -> Iterator[str]:
    """The keys in both headers: some clients fill one of them with a placeholder."""
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        yield credentials.strip()
    if key := environ.get("HTTP_X_API_KEY", "").strip():
        yield key
