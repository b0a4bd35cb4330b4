"""Rows of the run store, for tests of what refers to them."""

from __future__ import annotations

from typing import Any


def run_row(id: str, **values: Any) -> dict[str, Any]:
    """A completed background run, as columns of `services.store.schema.runs`."""
    return {
        "id": id,
        "kind": "prompt",
        "owner": "somebody",
        "status": "completed",
        "is_background": True,
        "priority": 5,
        "attempt": 1,
        "attempts": 1,
        "is_cancel_requested": False,
        "are_events_expired": False,
        "request_id": "req_1",
        "created_at": 1_700_000_000_000_000,
        "tags": "[]",
        "metadata": "{}",
        **values,
    }
