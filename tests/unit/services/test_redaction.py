"""Credentials in a CLI's errors do not reach callers, and everything else does."""

from __future__ import annotations

import pytest

from services.redaction import redact


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-proj-abcdef0123456789.", "sk-proj-abcdef0123456789"),
        ("x-api-key: sk-ant-api03-AbCd_0123-xyz", "sk-ant-api03-AbCd_0123-xyz"),
        ("key=AIzaSyA1234567890abcdefghijklmnop", "AIzaSyA1234567890abcdefghijklmnop"),
        ("push failed for ghp_0123456789abcdefghij", "ghp_0123456789abcdefghij"),
        ("signed with whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS+/w==, sent", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS+/w=="),
        ("Authorization: Bearer abc.def-ghi_123", "abc.def-ghi_123"),
        ("authorization: basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
        ("postgresql://me:hunter22@db/x is down", "hunter22"),
        ('{"access_token": "0123456789abcdef"}', "0123456789abcdef"),
        ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
        ("password=correct-horse", "correct-horse"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIB\nxyz\n-----END RSA PRIVATE KEY-----", "MIIB"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
    ],
)
def test_credential_is_taken_out(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert "[redacted]" in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "prompt is too long: 215000 tokens > 200000 maximum",
        "max_tokens: 200000",
        "Not logged in · Please run /login",
        "https://example.com/a?b=c failed with 503",
        "model claude-sonnet-4-5-20250929 does not exist",
    ],
)
def test_other_words_stay(text: str) -> None:
    assert redact(text) == text
