"""The checks that run before every route, in this order: size, host, origin, wrong keys, key, role, media type."""

from __future__ import annotations

import flask
from flask import request

from app.config.schema import ServerSettings
from app.observability.context import request_of
from app.security.authentication import authenticate, presented_keys
from app.security.body import check_declared_size, check_media_type
from app.security.cors import SAFE_METHODS, OriginRules, allow_origins, is_preflight
from app.security.hosts import HostRules, check_peer, is_loopback
from app.security.rate_limit import InMemory, WrongKeys
from blueprints.marks import marks_of
from services.access.access import Access
from services.access.keys_in_force import KeysInForce
from services.errors import AuthenticationFailed, PermissionDenied, RightMissing, StoreUnavailable


def register_request_checks(app: flask.Flask, server: ServerSettings, keys: KeysInForce, access: Access, tried: InMemory) -> None:
    """Run the checks before every request, also for unknown paths. ``access`` has the rights of ``keys``; ``tried`` counts wrong keys."""
    hosts = HostRules(server)
    origins = OriginRules(server)
    is_local = is_loopback(server.host)
    wrong_keys = WrongKeys(tried, rps=server.rate_limit_rps, burst=server.rate_limit_burst)
    allow_origins(app, origins, server)

    @app.before_request
    def check() -> flask.Response | None:
        environ = request.environ
        address = environ.get("REMOTE_ADDR", "")
        current = request_of(environ)
        current.caller = address
        current.route = request.url_rule.rule if request.url_rule else ""
        host = environ.get("HTTP_HOST")
        are_required = keys.are_required

        if is_local and not are_required:
            check_peer(current.proxy or address)
        check_declared_size(environ, server.max_request_body_bytes)
        hosts.check(host)
        if is_preflight(environ):
            if not origins.allows(environ["HTTP_ORIGIN"]):
                raise PermissionDenied("this origin is not allowed (server.cors_allowed_origins)", issue="origin not allowed")
            return app.response_class(status=204)
        if environ["REQUEST_METHOD"] not in SAFE_METHODS:
            # Without keys, a page whose name resolves to this server (DNS rebinding) would count as the server's own.
            origins.check(environ, host if host and (are_required or hosts.knows(host)) else None)
        marks = marks_of(app.view_functions.get(request.endpoint or ""))
        # A proxy may block the route's canonical path, so the setting makes only that spelling public.
        is_opened = bool(marks.public_setting) and getattr(server, marks.public_setting) and environ["PATH_INFO"] == current.route
        is_open = marks.is_public or is_opened
        has_key = any(presented_keys(environ))
        current.sees_details = not are_required
        if are_required and environ["REQUEST_METHOD"] != "OPTIONS" and (has_key or not is_open):
            # A valid key always passes, however many wrong ones its address has sent.
            try:
                key = authenticate(environ, keys)
                current.key_name = current.caller = key.name
                current.rights = access.rights_of(key.name)
                current.sees_details = True
            except StoreUnavailable:
                if not is_open:
                    raise
            except AuthenticationFailed:
                is_over = has_key and not wrong_keys.take(address)
                if not is_open:
                    if is_over:
                        raise wrong_keys.refusal(address) from None
                    raise
        if marks.needs_admin and not is_open and not current.rights.is_admin:
            raise RightMissing("this needs a key with the role admin", right="role", value=current.rights.role)
        if request.routing_exception is None:
            check_media_type(environ)
        return None
