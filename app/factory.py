"""`create_app` returns the whole server as one WSGI application. It starts nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import flask
import flask_smorest
import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin

from app.api.errors import to_problem
from app.api.json import OrjsonProvider
from app.api.openapi import Describe, ErrorSchema
from app.api.surfaces import SURFACES, error_answer, error_body
from app.api.unknown_path import unknown_path_message
from app.build import build_services
from app.config.load import load_settings
from app.config.schema import Settings
from app.configuration import Configuration
from app.observability.context import request_of
from app.observability.logs import configure_logging, error_log
from app.observability.middleware import RequestMiddleware
from app.observability.observers import Observation, build_observation
from app.security.api_keys import load_keys
from app.security.body import Request, body_config
from app.security.checks import register_request_checks
from app.security.hosts import is_loopback
from app.security.proxies import TrustedProxies
from app.security.rate_limit import Counts, limit_runs
from app.version import program_version
from blueprints.context import Services
from blueprints.deprecation import announce_deprecation
from blueprints.openai.errors import UNKNOWN_ROUTE
from services.access.key_ring import KeyRing

DESCRIPTION = """\
One HTTP server in front of AI coding CLIs (Claude Code, Codex, Gemini and others): a native REST API, APIs compatible
with the OpenAI and Anthropic SDKs, and an MCP server. Every response has `X-Request-ID`.

Where `server.rate_limit_enabled` is set, or the API key has a limit of its own, the routes that start a run are rate limited (429); the others
are not.
"""

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}


class App(flask.Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """No view is a coroutine. Flask asks seven times a request."""
        return func


def create_app(
    settings: Settings | None = None,
    *,
    keys: KeyRing | None = None,
    is_open: bool = False,
    is_local: bool | None = None,
    services: Services | None = None,
    observation: Observation | None = None,
    counts: Counts | None = None,
) -> flask.Flask:
    """Create the application. Omitted arguments come from the configuration: settings, keys, and the services built from them.
    ``is_open``: no key is ever required (--no-auth). ``is_local``: the server listens on loopback alone; None: see ``server.host``.

    ``observation`` and ``counts`` are those of the application that this one replaces.
    """
    settings = settings or load_settings()
    keys = load_keys(settings) if keys is None else keys
    services = services or build_services(settings)
    server = settings.server
    observation = observation or build_observation(server, services)
    counts = counts or Counts()
    services.runner.observer = observation.runs
    services.keys.configure(keys, is_open=is_open, is_local=is_loopback(server.host) if is_local is None else is_local)
    configure_logging(server.log_format, server.log_level, file=server.log_file)

    app = App("clinvk", static_folder=None)
    app.request_class = Request
    app.json = OrjsonProvider(app)
    app.config |= _config(settings)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # `app.observability.middleware` merges them without a redirect
    app.extensions["clinvk"] = services
    app.extensions["clinvk.configuration"] = Configuration.of(settings, keys)
    app.extensions["clinvk.error_body"] = error_body
    app.extensions["clinvk.error_answer"] = error_answer
    app.extensions["clinvk.observation"] = observation
    app.extensions["clinvk.counts"] = counts
    app.extensions["clinvk.count_run"] = lambda: None  # `limit_runs` replaces it: for views that start runs, but not with every request

    register_request_checks(app, server, services.keys, services.access, counts.wrong_keys)
    app.register_error_handler(Exception, answer_error)
    _register_surfaces(app)
    limit_runs(app, server, counts.runs, answer_error)
    app.after_request(_keep_out_of_caches)
    app.after_request(announce_deprecation)
    proxies = TrustedProxies(server.trusted_proxies)
    app.wsgi_app = RequestMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, proxies=proxies, write_timeout_s=server.write_timeout_secs, observers=observation.requests
    )
    return app


def build_app(configuration: Configuration) -> flask.Flask:
    """Create the application from a configuration that is already loaded and validated."""
    app = create_app(configuration.settings, keys=configuration.keys, is_open=configuration.is_open, is_local=configuration.is_local)
    app.extensions["clinvk.configuration"] = configuration
    return app


def answer_error(error: Exception) -> flask.Response:
    """Convert any exception to an error response in the format of the path's API surface."""
    request = flask.request
    current = request_of(request.environ)
    problem = to_problem(error)
    if problem.details.get("issue") == UNKNOWN_ROUTE:
        rules = [rule.rule for rule in flask.current_app.url_map.iter_rules() if (rule.methods or set()) - {"HEAD", "OPTIONS"}]
        problem = replace(problem, message=unknown_path_message(request.path, rules))
    answer = error_answer(problem, request.path, current.request_id)
    current.error_code = answer.code
    if answer.code == "internal_error":
        fields = {"request_id": current.request_id, "method": request.method, "path": request.path}
        error_log.error("unhandled error", exc_info=error, extra={"fields": fields})
    return flask.Response(answer.body, answer.status, answer.headers)


class Api(flask_smorest.Api):
    """flask-smorest for validation and the OpenAPI document; `answer_error` handles errors."""

    ERROR_SCHEMA = ErrorSchema
    DEFAULT_ERROR_RESPONSE_NAME = None  # `Describe` adds each route's own

    def _register_error_handlers(self) -> None:
        pass


def _register_surfaces(app: flask.Flask) -> None:
    plugins = {"marshmallow_plugin": MarshmallowPlugin(schema_name_resolver=to_schema_name), "extra_plugins": [Describe(app)]}
    api = Api(app, spec_kwargs=plugins)
    for name, scheme in SECURITY_SCHEMES.items():
        api.spec.components.security_scheme(name, scheme)
    for surface in SURFACES:
        for blueprint in surface.blueprints:
            api.register_blueprint(blueprint)
        for pages in surface.pages:
            app.register_blueprint(pages)


def to_schema_name(schema: type[ma.Schema] | ma.Schema) -> str:
    """The schema's name in the OpenAPI document. Several surfaces define Message and Model, so all but the native ones have a prefix."""
    kind = schema if isinstance(schema, type) else type(schema)
    surface = {"openai": "OpenAI", "anthropic": "Anthropic"}.get(kind.__module__.split(".")[1], "") if "." in kind.__module__ else ""
    return surface + kind.__name__.removesuffix("Schema")


def _config(settings: Settings) -> dict[str, Any]:
    return {
        "API_TITLE": "clinvk",
        "API_VERSION": program_version(),
        "OPENAPI_VERSION": "3.0.3",  # the latest that the bundled Swagger UI 4 supports
        "API_SPEC_OPTIONS": {"info": {"description": DESCRIPTION}, "security": [{name: []} for name in SECURITY_SCHEMES]},
        "CLINVK_STARTED_AT": monotonic(),
    } | body_config(settings.server.read_timeout_secs, settings.server.max_request_body_bytes)


def _keep_out_of_caches(response: flask.Response) -> flask.Response:
    """Responses may contain source code; views set their own Cache-Control where caching is safe."""
    response.headers.setdefault("Cache-Control", "no-store")
    return response
