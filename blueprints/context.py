"""The services that routes use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from services.access.access import Access
from services.access.keys_in_force import KeysInForce
from services.clis.probe import Prober
from services.ledger.ledger import Ledger
from services.models import ModelResolver
from services.processes.spawner import Spawner
from services.quotas.quotas import Quotas
from services.runner import Runner
from services.runs.service import Runs
from services.server_secret import ServerSecret
from services.sessions.continuation import Continuation
from services.sessions.conversations import Conversations
from services.sessions.response_tree import ResponseTree
from services.sessions.upkeep import Upkeep


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Built once by `app.build`, stored in ``app.extensions["clinvk"]``."""

    access: Access
    keys: KeysInForce
    runner: Runner
    spawner: Spawner
    conversations: Conversations
    continuation: Continuation
    responses: ResponseTree
    runs: Runs
    ledger: Ledger
    quotas: Quotas
    secret: ServerSecret
    upkeep: Upkeep
    prober: Prober
    models: ModelResolver
    expected_backends: frozenset[str] = frozenset()
    """Backends named in the configuration, and therefore expected to be available."""
    dry_run: bool = False
    """Make every request a dry run (unified_flags.dry_run)."""
    max_parallel: int = 3
    """Default for concurrent runs of one /parallel request (parallel.max_workers)."""
    fail_fast: bool = False
    """Default for whether one failure ends a /parallel request (parallel.fail_fast)."""

    why_no_own_rate: str | None = None
    """Why a new key cannot have a rate of its own; None: it can."""

    @property
    def default_backend(self) -> str:
        return self.models.default_backend

    def models_of(self, owner: str) -> ModelResolver:
        """The models that ``owner`` may use. Raises KeyRevoked."""
        return self.models.among(self.access.rights_of(owner))


def services() -> Services:
    return cast(Services, current_app.extensions["clinvk"])
