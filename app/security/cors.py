"""Which web pages may send requests: the Origin check, and the CORS headers.

A page can send requests to a local server across origins. The Origin header gives it away; CORS alone only hides the answer, after the
agent has run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import flask
from flask_cors import CORS

from app.config.schema import ServerSettings
from blueprints.mcp.protocol import SESSION_HEADER
from blueprints.response_headers import BACKEND, DENIED_TOOLS, ESTIMATED, FALLBACK, HINT, IGNORED, REPLAYED, RUN_ID
from services.errors import PermissionDenied

EXPOSED = (
    "Deprecation", "Link", "Location", SESSION_HEADER, "Request-Id", "Retry-After", "Sunset", BACKEND, DENIED_TOOLS, ESTIMATED, FALLBACK, HINT,
    IGNORED, REPLAYED, RUN_ID, "Preference-Applied", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-ID", "X-Should-Retry",
)  # fmt: skip
"""Access-Control-Expose-Headers: what scripts of other origins may read."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginRules:
    """Which web pages may call: the configured origins, each with any port where it names none."""

    def __init__(self, server: ServerSettings) -> None:
        self.allows_all = "*" in server.cors_allowed_origins
        self.patterns = [_to_pattern(origin) for origin in server.cors_allowed_origins if origin != "*"]

    def allows(self, origin: str) -> bool:
        return self.allows_all or any(pattern.match(origin) for pattern in self.patterns)

    def check(self, headers: Mapping[str, Any], own_host: str | None) -> None:
        """Refuse what a page sends from elsewhere. Raises PermissionDenied. ``own_host`` is where the server's own pages are.

        Browsers send Origin with everything but plain navigation; Node's fetch sends ``Sec-Fetch-Mode`` and no Origin.
        """
        origin = headers.get("HTTP_ORIGIN")
        if origin is None:
            if headers.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site"):
                raise _not_allowed("of another site")
        elif not self.allows(origin) and not _is_same_origin(origin, own_host):
            raise _not_allowed(origin[:200])


def allow_origins(app: flask.Flask, rules: OriginRules, server: ServerSettings) -> None:
    """The CORS headers of every answer; preflights are answered in `app.security.checks`, before a key is asked for."""
    CORS(
        app,
        origins="*" if rules.allows_all else rules.patterns,
        supports_credentials=server.cors_allow_credentials and not rules.allows_all,
        send_wildcard=rules.allows_all,
        max_age=server.cors_max_age,
        methods=["GET", "HEAD", "POST", "DELETE", "OPTIONS"],
        expose_headers=list(EXPOSED),
        allow_private_network=True,
        always_send=False,
        automatic_options=False,
    )
    allow = app.after_request_funcs[None].pop()

    @app.after_request
    def allow_origin(response: flask.Response) -> flask.Response:
        """Only a browser sends an Origin; without one, Flask-CORS would look at the request and leave the response as it is."""
        return cast(flask.Response, allow(response)) if "HTTP_ORIGIN" in flask.request.environ else response


def is_preflight(environ: Mapping[str, Any]) -> bool:
    return environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ and "HTTP_ORIGIN" in environ


def _not_allowed(origin: str) -> PermissionDenied:
    return PermissionDenied(
        f"requests from web pages {origin if origin.startswith('of ') else f'at {origin!r}'} are not allowed;"
        " to allow them, add the origin to server.cors_allowed_origins",
        field="Origin",
        issue="origin not allowed",
    )


def _is_same_origin(origin: str, host: str | None) -> bool:
    """The server's own pages (`/docs`). The scheme is not compared: behind TLS termination only the proxy knows it."""
    return bool(host) and origin.partition("://")[2].lower() == str(host).lower()


def _to_pattern(origin: str) -> re.Pattern[str]:
    parts = urlsplit(origin)
    port = ""
    if parts.scheme in DEFAULT_PORTS:
        if parts.port is None:
            port = r"(:\d{1,5})?"
        elif parts.port == DEFAULT_PORTS[parts.scheme]:
            origin, port = origin.rpartition(":")[0], f"(:{parts.port})?"
    return re.compile(rf"{re.escape(origin)}{port}\Z", re.IGNORECASE)
