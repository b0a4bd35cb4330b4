"""Marks on view functions, read by the rate limit, the checks of key and role, and the OpenAPI document.

    @blp.post("/prompt")
    @blp.response(200, ResultSchema)
    @runs_cli
    @can_fail("backend_unavailable", "timeout")
    @streams(EVENT_STREAM)
    def run_prompt(): ...

A route without marks requires an API key, is not rate limited, and documents only the errors common to all routes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

ATTRIBUTE = "clinvk_marks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    runs_cli: bool = False
    """Starts a CLI, so it is rate limited."""
    is_public: bool = False
    """Requires no API key."""
    needs_admin: bool = False
    """Requires an admin's key, where keys are required."""
    public_setting: str = ""
    """The server setting that makes it public."""
    errors: tuple[str, ...] = ()
    """Error codes besides those of every route with a body, a key or a rate limit."""
    stream_types: tuple[str, ...] = ()
    """Content types of its streamed responses."""


View = Callable[..., Any]

UNMARKED = Marks()


def marks_of(view: View | None) -> Marks:
    """The marks of a view; None counts as unmarked."""
    found: Marks = getattr(view, ATTRIBUTE, UNMARKED)
    return found


def runs_cli(view: View) -> View:
    return _marked(view, runs_cli=True)


def public(view: View) -> View:
    return _marked(view, is_public=True)


def admin(view: View) -> View:
    return _marked(view, needs_admin=True)


def public_where(setting: str) -> Callable[[View], View]:
    """``setting``: the name of a boolean setting of the server."""
    return lambda view: _marked(view, public_setting=setting)


def can_fail(*codes: str) -> Callable[[View], View]:
    """``codes``: of `services.errors`."""
    return lambda view: _marked(view, errors=codes)


def streams(*content_types: str) -> Callable[[View], View]:
    return lambda view: _marked(view, stream_types=content_types)


def _marked(view: View, **marks: Any) -> View:
    setattr(view, ATTRIBUTE, replace(marks_of(view), **marks))
    return view
