"""Secrets and signatures of Standard Webhooks: symmetric, HMAC-SHA256. Pure."""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode

from services.errors import InvalidRequest

SECRET_PREFIX = "whsec_"
KEY_LEAST_BYTES, KEY_MOST_BYTES = 24, 64
EXPECTED = f"{SECRET_PREFIX} followed by the base64 of {KEY_LEAST_BYTES} to {KEY_MOST_BYTES} bytes"


def to_key(secret: str, *, field: str = "webhook.secret") -> bytes:
    """The signing key. Raises InvalidRequest, whose message does not repeat the secret."""
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters beyond ASCII
        key = b""
    # Compared with its own encoding: decoders differ on surplus padding and on bits that the last character does not need.
    is_whole = secret.startswith(SECRET_PREFIX) and b64encode(key).decode() == encoded
    if not is_whole or not KEY_LEAST_BYTES <= len(key) <= KEY_MOST_BYTES:
        raise InvalidRequest(f"{field}: expected {EXPECTED}", field=field, issue=f"expected {EXPECTED}")
    return key


def headers(secret: str, id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt. ``id`` is the delivery's, the same in every attempt; it has no full stop."""
    signed = f"{id}.{timestamp_s}.".encode() + body
    signature = b64encode(hmac.digest(to_key(secret), signed, "sha256")).decode()
    return {"webhook-id": id, "webhook-timestamp": str(timestamp_s), "webhook-signature": f"v1,{signature}"}
