"""What a runner needs of the accounts of its callers, and a runner without any."""

from __future__ import annotations

from typing import Protocol

from services.admission import AdmissionControl, Slot
from services.cancellation import Cancellation
from services.clis.spec import Invocation
from services.events import Failed, Finished
from services.requests import RunRequest
from services.telemetry import RunTelemetry


class Accounts(Protocol):
    """See `services.quotas.quotas.Quotas`."""

    def check(self, invocation: Invocation) -> None: ...

    def admit(self, request: RunRequest, cancellation: Cancellation) -> tuple[Slot, str | None]: ...

    def give_back(self, request: RunRequest, slot: str | None) -> None: ...

    def settle(self, run: RunTelemetry, end: Finished | Failed, slot: str | None) -> Finished | Failed: ...


class Unaccounted:
    """Limits and counts nothing but the slots of the server."""

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission

    def check(self, invocation: Invocation) -> None: ...

    def admit(self, request: RunRequest, cancellation: Cancellation) -> tuple[Slot, str | None]:
        return self._admission.acquire(request.backend, request.caller, cancellation, is_background=request.is_background), None

    def give_back(self, request: RunRequest, slot: str | None) -> None: ...

    def settle(self, run: RunTelemetry, end: Finished | Failed, slot: str | None) -> Finished | Failed:
        return end
