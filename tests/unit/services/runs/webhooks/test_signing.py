"""Secrets and signatures of webhooks."""

from __future__ import annotations

from base64 import b64encode

import pytest

from services.errors import InvalidRequest
from services.runs.webhooks.signing import headers, to_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def secret_of(key: bytes) -> str:
    return "whsec_" + b64encode(key).decode()


def test_the_signature_is_that_of_the_reference_libraries() -> None:
    """Source: standard-webhooks/standard-webhooks, `libraries/javascript/src/webhook.test.ts`, "sign function works"."""
    assert headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}') == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_id_time_and_body_are_all_signed() -> None:
    signatures = {
        headers(SECRET, id, at, body)["webhook-signature"]
        for id, at, body in [("msg_1", 1, b"{}"), ("msg_2", 1, b"{}"), ("msg_1", 2, b"{}"), ("msg_1", 1, b"[]")]
    }
    assert len(signatures) == 4


@pytest.mark.parametrize("key", [bytes(24), bytes(range(64)), b"\xff" * 33])
def test_a_secret_of_24_to_64_bytes_is_accepted(key: bytes) -> None:
    assert to_key(secret_of(key)) == key


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        secret_of(b"\xff" * 23),
        secret_of(b"\xff" * 65),
        SECRET.removeprefix("whsec_"),
        "WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        f" {SECRET}",
        f"{SECRET}\n",
        f"{SECRET}====",
        secret_of(b"\xff" * 25).rstrip("="),
        secret_of(b"\xff" * 25).replace("w==", "x=="),  # bits that no byte needs
        secret_of(b"\xff" * 24).replace("/", "_"),
        secret_of(b"\xff" * 24) + "é",
    ],
)
def test_any_other_secret_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_key(secret)
    assert caught.value.field == "webhook.secret"
    assert len(secret) < 7 or secret.strip()[6:] not in caught.value.message
