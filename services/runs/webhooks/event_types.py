"""Types of webhook events."""

from __future__ import annotations

from services.runs.record import RunKind, Webhook

RUN_EVENTS = ("run.completed", "run.failed", "run.cancelled", "run.approval_required")
RESPONSE_EVENTS = ("response.completed", "response.failed", "response.cancelled", "response.incomplete")
"""OpenAI's names, for runs of kind ``response``. Source: openai 3.54, `types/webhooks/unwrap_webhook_event.py`."""


def event_types(kind: RunKind) -> tuple[str, ...]:
    """All types that a run of this kind can have."""
    return RESPONSE_EVENTS if kind == "response" else RUN_EVENTS


def event_type(kind: RunKind, what: str) -> str:
    """``what`` happened: the status of a run that ended, ``approval_required`` or, for a response, ``incomplete``."""
    return f"{'response' if kind == 'response' else 'run'}.{what}"


def wanted(webhook: Webhook, type: str) -> bool:
    """Whether the caller asked for events of this type."""
    return not webhook.events or type in webhook.events
