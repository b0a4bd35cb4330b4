"""The current request's facts that routes use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

from flask import request

from services.access.rights import Rights
from services.access.scope import Scope

CURRENT_REQUEST = "clinvk.request"
"""Key of the WSGI environ: the request's `app.observability.context.CurrentRequest`."""


class CurrentRequest(Protocol):
    misspelled: Mapping[str, str]
    """The fields of the body that have no effect because of their spelling, each with the known field's name."""

    request_id: str
    answer_headers: dict[str, str]
    """Headers for the answer, whatever it will be."""

    @property
    def caller(self) -> str:
        """The unit of fair queueing: the key's name, or the client's address."""

    @property
    def traceparent(self) -> str:
        """The trace that the request's runs belong to (W3C); empty if there is none."""

    @property
    def owner(self) -> str:
        """Whom the request's runs belong to: the key's name, or `local` where no keys are configured."""

    @property
    def rights(self) -> Rights:
        """What the caller may do."""

    @property
    def scope(self) -> Scope:
        """Whose things the caller sees."""

    @property
    def sees_details(self) -> bool:
        """Whether a public route may show more than its status: the request has a valid key, or none is required."""


def current_request() -> CurrentRequest:
    return cast(CurrentRequest, request.environ[CURRENT_REQUEST])


def request_id() -> str:
    return current_request().request_id


def caller() -> str:
    return current_request().caller


def sees_details() -> bool:
    return current_request().sees_details


def traceparent() -> str:
    return current_request().traceparent


def owner() -> str:
    return current_request().owner


def rights() -> Rights:
    return current_request().rights


def scope() -> Scope:
    return current_request().scope
