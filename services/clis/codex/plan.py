"""Codex' ``account/rateLimits/updated`` → windows of the subscription (recordings codex/…/warm-appserver-plan). API keys have none.

It says how much is used, not whether requests are refused: they are at 100 %, unless the account has credits besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.decoding.fields import count_of, map_of, number_of, text_of
from services.events import PlanUpdate
from services.plans.window import REJECTED, PlanWindow, reset, share

METHOD = "account/rateLimits/updated"
MAIN = "codex"
"""The limit of Codex itself; others are of single models or features."""
BY_MINUTES = {300: "five_hour", 10_080: "seven_day"}
"""Named as Claude Code names them."""


def to_plan_update(params: Mapping[str, Any]) -> PlanUpdate | None:
    """None where the account has no windows; no windows: nothing of ``params`` is known."""
    limits = params.get("rateLimits")
    if not isinstance(limits, dict) or not limits.keys() & {"primary", "secondary"}:
        return PlanUpdate(())
    paid = map_of(limits.get("credits"))
    is_paid_beyond = paid.get("hasCredits") is True or paid.get("unlimited") is True
    by_place = {place: map_of(limits.get(place)) for place in ("primary", "secondary") if limits.get(place) is not None}
    prefix = "" if text_of(limits.get("limitId")) in ("", MAIN) else f"{text_of(limits.get('limitId'))}:"
    windows = [_window(prefix, place, facts, is_paid_beyond) for place, facts in by_place.items() if "usedPercent" in facts]
    return PlanUpdate(tuple(windows)) if windows or by_place else None


def _window(prefix: str, place: str, facts: Mapping[str, Any], is_paid_beyond: bool) -> PlanWindow:
    minutes, percent = count_of(facts.get("windowDurationMins")), number_of(facts.get("usedPercent"))
    name = BY_MINUTES.get(minutes) or (f"{minutes}_minutes" if minutes else place)
    is_full = percent is not None and percent >= 100
    status = None if percent is None else "allowed" if not is_full else "allowed_warning" if is_paid_beyond else REJECTED
    used = None if percent is None else percent / 100
    return PlanWindow(prefix + name, share(used), reset(number_of(facts.get("resetsAt"))), status)
