"""Authenticates a request by its API key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.access.key import Key
from services.access.keys_in_force import KeysInForce
from services.errors import AuthenticationFailed


def authenticate(environ: Mapping[str, Any], keys: KeysInForce) -> Key:
    """The key that the request carries. Raises AuthenticationFailed, and StoreUnavailable while the keys are not known."""
    message = ""
    for presented in presented_keys(environ):
        key = keys.find(presented)
        if key and not key.is_expired:
            return key
        message = "this API key has expired; ask an admin of the server for another" if key else message or "this API key is not valid"
    keys.check_known()
    if message:
        raise AuthenticationFailed(message)
    raise AuthenticationFailed("API key required: send it as 'Authorization: Bearer <key>' or 'X-Api-Key: <key>'")


def presented_keys(environ: Mapping[str, Any]) -> Iterator[str]:
    """The keys in both headers: some clients fill one of them with a placeholder."""
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
    if scheme.lower() == "bearer" and credentials.strip():
        yield credentials.strip()
    if key := environ.get("HTTP_X_API_KEY", "").strip():
        yield key
