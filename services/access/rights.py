"""What a key may do. Pure data; `services.access.policy` applies it to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from services.requests import ApprovalMode, SandboxMode

Role = Literal["user", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

Isolation = Literal["none", "sandbox"]
ISOLATIONS: tuple[Isolation, ...] = get_args(Isolation)

BudgetUnit = Literal["usd", "tokens", "runs"]
BUDGET_UNITS: tuple[BudgetUnit, ...] = get_args(BudgetUnit)

Window = Literal["hour", "day", "week", "month"]
WINDOWS: tuple[Window, ...] = get_args(Window)
"""Calendar windows in UTC; a week begins on Monday."""

APPROVAL_ORDER: tuple[ApprovalMode, ...] = ("always", "default", "auto", "none")
SANDBOX_ORDER: tuple[SandboxMode, ...] = ("read-only", "workspace", "full")
"""From the strictest to the most permissive."""

LOCAL = "local"
"""The owner of everything where no keys are configured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most ``amount`` of ``unit`` per window. Tokens are input and output; cached input does not count."""

    unit: BudgetUnit
    amount: float
    per: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Rights and ceilings of one key. An empty tuple or None restricts nothing."""

    role: Role = "user"
    backends: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    """fnmatch patterns, compared without case with the resolved model and with ``backend/model``."""
    workdirs: tuple[str, ...] = ()
    """Folders that a workdir must be in; the first is the default."""
    max_approval_mode: ApprovalMode | None = None
    max_sandbox_mode: SandboxMode | None = None
    isolation: Isolation = "none"
    """The least isolation of a run."""
    rate_limit_rps: float | None = None
    rate_limit_burst: int | None = None
    max_concurrent_runs: int | None = None
    max_waiting_runs: int | None = None
    weight: float = 1.0
    """The key's share among the waiting runs of equal priority, above 0."""
    budgets: tuple[Budget, ...] = ()
    may_approve: bool = False

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    @property
    def has_own_rate(self) -> bool:
        return self.rate_limit_rps is not None or self.rate_limit_burst is not None


UNLIMITED = Rights(role="admin")
"""Of `LOCAL`."""
