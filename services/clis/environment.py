"""The clean environment of a CLI: an allow-list, never the server's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import translate
from functools import lru_cache

from services.clis.spec import BackendSpec

GENERAL_ENV = (
    "PATH", "HOME", "LANG", "LANGUAGE", "LC_*", "TZ", "USER", "LOGNAME", "SHELL", "XDG_*",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
"""fnmatch patterns of the variables that every CLI gets. The server's own (``CLINVK_*``) never reach a CLI,
but for `services.depth.VARIABLE`."""


def cli_environment(spec: BackendSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The clean environment of a CLI: picked from ``environ`` by allow-list, then the spec's fixed variables."""
    picked = _picked((*GENERAL_ENV, *spec.vendor_env, *spec.pass_env), tuple(environ.items()))
    return {**picked, **spec.fixed_env}


@lru_cache  # the server's environment stays the same, run after run
def _picked(patterns: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    refused = ("CLINVK_*", *(pattern[1:] for pattern in patterns if pattern.startswith("!")))
    is_wanted, is_refused = _any_of(patterns).match, _any_of(refused).match
    return {name: value for name, value in variables if is_wanted(name) and not is_refused(name)}


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)))
