"""The exception hierarchy: one class per error code. `app.api.errors` maps codes to HTTP statuses.

ClinvkError                    internal_error
├── InvalidRequest             invalid_request          the message says what was received, what was expected and where
│   ├── WorkdirNotAllowed
│   ├── OptionNotSupported
│   └── TooDeep                                         an agent asks an agent that asks an agent …
├── AuthenticationFailed       authentication_error
├── PermissionDenied           permission_denied
│   └── RightMissing                                    a right that the key lacks
├── KeyRevoked                 key_revoked              the key of a queued run is no longer in force
├── NotFound                   not_found
├── Conflict                   conflict
│   └── KeyReused                                       never succeeds, however often it is retried
├── RequestTooLarge            request_too_large
├── RateLimited                rate_limit_exceeded
├── BudgetExceeded             budget_exceeded
├── BackendUnavailable         backend_unavailable      no CLI was started; safe to retry
│   ├── QueueFull
│   └── StoreUnavailable
├── EventsExpired              gone                     the events of the run were deleted
├── RunEnded                   by the stored error      how a stored run ended
└── RunFailed                  by its failure's kind    a CLI was started; not safe to retry
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from services import depth
from services.redaction import redact

if TYPE_CHECKING:
    from services.events import Failed, FailureKind
    from services.requests import RunResult


class ClinvkError(Exception):
    """``message`` says what the caller must change; ``details`` holds the field and the issue, if any."""

    code: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, retry_after_s: float | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.details: dict[str, Any] = {key: value for key, value in details.items() if value is not None}


class InvalidRequest(ClinvkError):
    """``field`` is the path of the offending field in the request (``messages[2].content``), if any."""

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None, issue: str | None = None, **details: Any) -> None:
        super().__init__(message, field=field, issue=issue, **details)
        self.field = field


class WorkdirNotAllowed(InvalidRequest):
    def __init__(self, path: str, issue: str) -> None:
        super().__init__(f"workdir {path!r} {issue}", field="workdir", issue=issue)


class OptionNotSupported(InvalidRequest):
    """The backend does not support an option that cannot be ignored silently (an image, a schema)."""

    def __init__(self, backend: str, option: str, hint: str) -> None:
        super().__init__(f"backend {backend!r} does not support {option}: {hint}", field=option, issue=hint)


class TooDeep(InvalidRequest):
    """``max_depth`` agents have asked each other in a row. In words for the agent that wants one more."""

    def __init__(self, max_depth: int) -> None:
        super().__init__(
            f"you were asked by another agent of this server, and {max_depth} in a row are the limit (server.mcp_max_depth): "
            "no further agent was started. Do this part of the task yourself, and answer",
            field=depth.HEADER,
            issue="too deep",
        )


class AuthenticationFailed(ClinvkError):
    code = "authentication_error"


class PermissionDenied(ClinvkError):
    code = "permission_denied"


class RightMissing(PermissionDenied):
    """``right`` names the setting of the key that forbids it, ``value`` what was asked for. The message ends with the right: not every
    surface has details."""

    def __init__(self, message: str, *, right: str, value: Any = None) -> None:
        super().__init__(f"{message} (right of the key: {right})", right=right, value=value)


class KeyRevoked(ClinvkError):
    code = "key_revoked"


class NotFound(ClinvkError):
    code = "not_found"


UNKNOWN_RESPONSE = "unknown response"


class ResponseNotFound(InvalidRequest):
    """The response to continue is unknown. As at OpenAI, the fault is the request's, whose address exists."""

    def __init__(self, message: str) -> None:
        super().__init__(message, field="previous_response_id", issue=UNKNOWN_RESPONSE)


class Conflict(ClinvkError):
    code = "conflict"


class KeyReused(Conflict):
    """The idempotency key belongs to another request."""

    def __init__(self) -> None:
        super().__init__(
            "this Idempotency-Key was used for another request; use a new key for each request",
            field="Idempotency-Key",
            issue="key reused",
        )


class RequestTooLarge(ClinvkError):
    code = "request_too_large"


class RateLimited(ClinvkError):
    code = "rate_limit_exceeded"


class BudgetExceeded(ClinvkError):
    """A budget of the key is used up. ``retry_after_s``: until its window ends; the SDKs must not retry by themselves."""

    code = "budget_exceeded"


class BackendUnavailable(ClinvkError):
    code = "backend_unavailable"


class QueueFull(BackendUnavailable):
    pass


class StoreUnavailable(BackendUnavailable):
    """The session store cannot be reached or written."""


class EventsExpired(ClinvkError):
    code = "gone"


class RunEnded(ClinvkError):
    """A stored run that has no answer of its own: its process was lost, or stopped by the server."""

    def __init__(self, code: str, message: str, ended_at: int | None = None) -> None:
        """``ended_at``: microseconds since the epoch."""
        super().__init__(message)
        self.code = code  # type: ignore[misc]
        self.ended_at = ended_at


RUN_FAILURE_CODES: dict[FailureKind, str] = {
    "rate_limited": "rate_limit_exceeded",
    "overloaded": "backend_overloaded",
    "prompt_too_long": "invalid_request",
    "invalid_prompt": "invalid_request",
    "unknown_model": "not_found",
    "unknown_session": "not_found",
    "not_logged_in": "backend_unavailable",
    "timeout": "timeout",
    "cancelled": "cancelled",
    "shutdown": "backend_unavailable",
    "server_stopped": "server_stopped",
    "unavailable": "backend_unavailable",
    "budget_exceeded": "budget_exceeded",
    "backend": "backend_error",
}
"""Failure kind → error code."""


class RunFailed(ClinvkError):
    """A CLI was started and failed. Not safe to retry: the response has ``x-should-retry: false``."""

    def __init__(self, failure: Failed, result: RunResult | None = None) -> None:
        super().__init__(redact(failure.message), retry_after_s=failure.retry_after_s, exit_code=failure.exit_code)
        self.failure = failure
        self.result = result
        self.code = RUN_FAILURE_CODES[failure.kind]  # type: ignore[misc]
