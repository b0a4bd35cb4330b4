"""Deprecated routes: one mark on the view function sets the headers of every response and the OpenAPI document.

    @blp.post("/old")
    @blp.response(200, ResultSchema)
    @deprecated(since=date(2027, 1, 1), sunset=date(2027, 7, 1), notice="https://example.com/changes#old")
    def run_old(): ...

The headers: `Deprecation` (RFC 9745), `Sunset` (RFC 8594), and `Link` to the notice under both relations. A route keeps
working after its sunset until its code is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from flask import Response, current_app, request
from flask_smorest import Blueprint
from werkzeug.http import http_date

MARK = "clinvk_deprecation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """``since`` may be in the future. ``sunset`` is the first day on which the route may be gone. Days begin at 00:00 UTC."""

    since: date
    sunset: date | None = None
    notice: str | None = None
    """Describes the replacement: an absolute URL, or a path on this server."""

    def __post_init__(self) -> None:
        if self.sunset and self.sunset < self.since:  # RFC 9745, section 4
            raise ValueError(f"the sunset {self.sunset} is before the deprecation {self.since}")

    def headers(self) -> Iterator[tuple[str, str]]:
        """`Deprecation` has a structured-field date (RFC 9651: `@` and seconds), `Sunset` an HTTP date."""
        yield "Deprecation", f"@{int(_start_of(self.since).timestamp())}"
        if self.sunset:
            yield "Sunset", http_date(_start_of(self.sunset))
        if self.notice:
            yield "Link", f'<{self.notice}>; rel="deprecation"; type="text/html"'
        if self.notice and self.sunset:
            yield "Link", f'<{self.notice}>; rel="sunset"; type="text/html"'


View = Callable[..., Any]


def deprecated(*, since: date, sunset: date | None = None, notice: str | None = None) -> Callable[[View], View]:
    """Mark a view function. Raises ValueError for a sunset before the deprecation."""
    deprecation = Deprecation(since=since, sunset=sunset, notice=notice)

    def mark(view: View) -> View:
        documented: View = Blueprint.doc(deprecated=True)(view)
        setattr(documented, MARK, deprecation)
        return documented

    return mark


def _start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def announce_deprecation(response: Response) -> Response:
    """An after_request function: adds the headers to every response of a marked route, including errors."""
    deprecation: Deprecation | None = getattr(current_app.view_functions.get(request.endpoint or ""), MARK, None)
    for name, value in deprecation.headers() if deprecation else ():
        response.headers.add(name, value)
    return response
