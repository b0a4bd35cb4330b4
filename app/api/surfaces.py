"""The table of API surfaces: path prefix, blueprints and error format of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import Blueprint as PlainBlueprint
from flask_smorest import Blueprint

from app.api.errors import (
    INTERNAL_PROBLEM,
    Envelope,
    Problem,
    to_anthropic_error,
    to_mcp_error,
    to_native_error,
    to_openai_error,
    to_problem,
)
from app.api.json import encode_json
from blueprints.anthropic.routes import blp as anthropic_blp
from blueprints.anthropic.routes import extras as anthropic_extras
from blueprints.mcp.routes import blp as mcp_blp
from blueprints.meta.docs import pages
from blueprints.meta.metrics import blp as metrics_blp
from blueprints.meta.routes import blp as meta_blp
from blueprints.native.compose import blp as compose_blp
from blueprints.native.keys import blp as keys_blp
from blueprints.native.plan_windows import blp as plan_windows_blp
from blueprints.native.routes import blp as native_blp
from blueprints.native.runs import blp as runs_blp
from blueprints.native.sessions import blp as sessions_blp
from blueprints.native.usage import blp as usage_blp
from blueprints.openai.responses.routes import blp as responses_blp
from blueprints.openai.routes import blp as openai_blp
from blueprints.openai.routes import extras as openai_extras


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    name: str
    prefix: str
    """All paths below it belong to this surface, whether or not a route exists."""
    envelope: Envelope
    blueprints: tuple[Blueprint, ...] = ()
    pages: tuple[PlainBlueprint, ...] = ()
    """Blueprints that the OpenAPI document leaves out."""
    statuses: Mapping[str, int] | None = None
    """Error codes whose status on this surface differs from `app.api.errors.STATUS`."""
    request_id_header: str | None = None
    """A second request id header, beside X-Request-ID, that the official SDKs read."""


# In documentation order; the surface without a prefix is last and matches all remaining paths.
SURFACES = (
    Surface(
        name="native",
        prefix="/api",
        envelope=to_native_error,
        blueprints=(native_blp, sessions_blp, compose_blp, runs_blp, keys_blp, usage_blp, plan_windows_blp),
    ),
    Surface(name="openai", prefix="/openai", envelope=to_openai_error, blueprints=(openai_blp, responses_blp), pages=(openai_extras,)),
    Surface(
        name="anthropic",
        prefix="/anthropic",
        envelope=to_anthropic_error,
        blueprints=(anthropic_blp,),
        pages=(anthropic_extras,),
        statuses={"backend_overloaded": 529},
        request_id_header="request-id",
    ),
    Surface(name="mcp", prefix="/mcp", envelope=to_mcp_error, blueprints=(mcp_blp,)),
    Surface(name="meta", prefix="", envelope=to_native_error, blueprints=(meta_blp, metrics_blp), pages=(pages,)),
)


def surface_of(path: str) -> Surface:
    for surface in SURFACES:
        if not surface.prefix or path == surface.prefix or path.startswith(surface.prefix + "/"):
            return surface
    return SURFACES[-1]


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    status: int
    headers: dict[str, str]
    body: bytes
    code: str


def error_answer(error: BaseException | Problem, path: str, request_id: str) -> ErrorAnswer:
    """``error`` as the response of the surface of ``path``. Never raises: a problem that cannot be encoded becomes an internal error."""
    problem = error if isinstance(error, Problem) else to_problem(error)
    try:
        return _answer(problem, surface_of(path), request_id)
    except Exception:
        return _answer(INTERNAL_PROBLEM, surface_of(path), request_id)


def error_body(error: BaseException, path: str, request_id: str) -> dict[str, Any]:
    """The body alone, for streams: their status is already sent, so they report a failure in an event."""
    return surface_of(path).envelope(to_problem(error), request_id)


def _answer(problem: Problem, surface: Surface, request_id: str) -> ErrorAnswer:
    if surface.statuses and problem.code in surface.statuses:
        problem = replace(problem, http_status=surface.statuses[problem.code])
    headers = {"Content-Type": "application/json", **problem.headers}
    return ErrorAnswer(problem.status, headers, encode_json(surface.envelope(problem, request_id)) + b"\n", problem.code)
