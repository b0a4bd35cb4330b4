"""Routes that will go: one mark on the view function, and every answer, the documentation and generated clients say so.

    @blp.post("/old")
    @blp.response(200, ResultSchema)
    @deprecated(since=date(2027, 1, 1), sunset=date(2027, 7, 1), notice="https://example.com/changes#old")
    def run_old(): ...

The header `Deprecation` is RFC 9745's, `Sunset` RFC 8594's; `Link` leads to the notice under both relations. A route that has
passed its sunset goes on answering until it is taken out: a date alone breaks nobody.
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
    """``since`` may be a day to come. ``sunset`` is the first day on which the route may be gone. Days begin in UTC."""

    since: date
    sunset: date | None = None
    notice: str | None = None
    """Where it is told what to use instead: an absolute address, or a path of this server."""

    def __post_init__(self) -> None:
        if self.sunset and self.sunset < self.since:  # RFC 9745, section 4
            raise ValueError(f"the sunset {self.sunset} is before the deprecation {self.since}")

    def headers(self) -> Iterator[tuple[str, str]]:
        """A date in `Deprecation` is a structured field's (RFC 9651: `@` and seconds), in `Sunset` it is HTTP's."""
        yield "Deprecation", f"@{int(_start_of(self.since).timestamp())}"
        if self.sunset:
            yield "Sunset", http_date(_start_of(self.sunset))
        if self.notice:
            yield "Link", f'<{self.notice}>; rel="deprecation"; type="text/html"'
        if self.notice and self.sunset:
            yield "Link", f'<{self.notice}>; rel="sunset"; type="text/html"'


View = Callable[..., Any]


def deprecated(*, since: date, sunset: date | None = None, notice: str | None = None) -> Callable[[View], View]:
    """Mark a view function. Raises ValueError for dates that cannot be."""
    told = Deprecation(since=since, sunset=sunset, notice=notice)

    def mark(view: View) -> View:
        documented: View = Blueprint.doc(deprecated=True)(view)
        setattr(documented, MARK, told)
        return documented

    return mark


def _start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def announce_deprecation(response: Response) -> Response:
    """An after_request function: the headers, on every answer of a marked route, its errors too."""
    told: Deprecation | None = getattr(current_app.view_functions.get(request.endpoint or ""), MARK, None)
    for name, value in told.headers() if told else ():
        response.headers.add(name, value)
    return response
