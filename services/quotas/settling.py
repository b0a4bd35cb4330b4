"""The end of a run → its cost, and its entry in the ledger. Pure."""

from __future__ import annotations

import msgspec

from services.events import Failed, Finished
from services.ledger.entry import MODEL_LIMIT_CHARS, Entry, new_id
from services.ledger.prices import Prices
from services.store.rows import storable
from services.telemetry import RunTelemetry
from services.usage import Usage

STOPPED = ("cancelled", "shutdown", "server_stopped")
"""Ends that are no failures."""


def priced(run: RunTelemetry, end: Finished | Failed, prices: Prices) -> Finished | Failed:
    """``end`` with a cost by the prices, where the CLI reports none and its tokens are known."""
    usage = run.fold.usage
    if end.cost_usd is not None or usage is None:
        return end
    price = prices.find(run.backend, run.model, run.invocation.model)
    return msgspec.structs.replace(end, cost_usd=price.of(usage), is_cost_estimated=True) if price else end


def to_entry(run: RunTelemetry, end: Finished | Failed, now: int) -> Entry:
    """``now``: microseconds since the epoch."""
    request = run.invocation.request
    return Entry(
        id=new_id(now),
        owner=request.owner,
        backend=run.backend,
        model=_model(run, end),
        run_id=request.run_id,
        is_failure=isinstance(end, Failed) and end.kind not in STOPPED,
        is_fallback=request.is_fallback,
        usage=run.fold.usage or Usage(),
        cost_usd=max(0.0, end.cost_usd or 0.0),
        is_cost_estimated=end.is_cost_estimated,
        duration_ms=round((run.ended_at - (run.spawned_at or run.requested_at)) * 1000),
    )


def _model(run: RunTelemetry, end: Finished | Failed) -> str:
    """Empty where the CLI does not know the model: anybody may name what does not exist."""
    if isinstance(end, Failed) and end.kind == "unknown_model":
        return ""
    return storable(run.model or "")[:MODEL_LIMIT_CHARS]
