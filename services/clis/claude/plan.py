"""Claude Code's ``rate_limit_event`` lines → windows of the subscription (recordings claude/plan-*). API keys have none.

Its ``status`` says whether requests are refused, and ``rateLimitType`` by which window. ``unifiedWindows`` has every window; one of them
may be rejected while requests pass, paid as extra usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.decoding.fields import map_of, number_of, text_of
from services.events import PlanUpdate
from services.plans.window import REJECTED, PlanWindow, reset, share

PASSES = "allowed_warning"


def to_plan_update(info: Mapping[str, Any]) -> PlanUpdate:
    """No windows: nothing of ``info`` is known."""
    status = text_of(info.get("status"))
    windows = {name: _window(name, map_of(facts)) for name, facts in map_of(info.get("unifiedWindows")).items()}
    if status != REJECTED:
        windows = {
            name: PlanWindow(name, one.used, one.resets_at, PASSES if one.status == REJECTED else one.status)
            for name, one in windows.items()
        }
    if name := text_of(info.get("rateLimitType")):
        limiting, known = _window(name, info), windows.get(name)
        used = limiting.used if limiting.used is not None or known is None else known.used
        windows[name] = PlanWindow(name, used, limiting.resets_at, limiting.status)
    return PlanUpdate(tuple(windows.values()))


def _window(name: str, facts: Mapping[str, Any]) -> PlanWindow:
    used, resets_at = number_of(facts.get("utilization")), number_of(facts.get("resetsAt"))
    return PlanWindow(name, share(used), reset(resets_at), text_of(facts.get("status")) or None)
