"""Redact credentials from text before callers see it. CLIs repeat keys and headers in their errors."""

from __future__ import annotations

import re

REDACTED = "[redacted]"

TOKENS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bsk-[\w-]{8,}"  # Anthropic, OpenAI
    r"|\bAIza[\w-]{20,}|\bya29\.[\w.-]{8,}"  # Google
    r"|\b(?:gh[opusr]_|github_pat_|glpat-)\w{16,}"
    r"|\bwhsec_[A-Za-z0-9+/]{8,}={0,2}"  # Standard Webhooks
    r"|\bxox[abprs]-[\w-]{8,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # a JSON Web Token
    re.DOTALL,
)
SCHEME = re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9+/=._~-]{8,}")
USER_INFO = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/@]{1,512}@")
ASSIGNED = re.compile(
    r"(?i)([\w-]{0,64}(?:api[_-]?key|access[_-]?key|token|secret|passw(?:or)?d|credential)s?[\"']?\s{0,4}[:=]\s{0,4}[\"']?)([^\s\"',;&]{6,})"
)


def redact(text: str) -> str:
    """``text`` without vendor API keys, Authorization header values, the userinfo of URLs, and values assigned to names
    such as ``api_key`` or ``token``. Numbers stay: ``tokens: 200000`` is not a secret."""
    text = TOKENS.sub(REDACTED, text)
    text = SCHEME.sub(rf"\1\2{REDACTED}", text)
    text = USER_INFO.sub(rf"\1{REDACTED}@", text)
    return ASSIGNED.sub(lambda found: found[0] if found[2].rstrip(".)").isdigit() else found[1] + REDACTED, text)
