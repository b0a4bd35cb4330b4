"""Plan windows that several processes share, on every database."""

from __future__ import annotations

from services.plans.store import PlanStore
from services.plans.window import PlanWindow
from services.plans.windows import PlanWindows
from services.store.sessions import SessionStore

IN_2100 = 4_102_444_800


def test_what_one_process_observes_all_know_and_the_later_report_counts(store: SessionStore) -> None:
    now = [1_000]
    ours, theirs = PlanWindows(lambda: now[0]), PlanWindows(lambda: now[0])
    here, there = PlanStore(store.database, ours), PlanStore(store.database, theirs)
    ours.observe("claude", [PlanWindow("five_hour", 0.5, IN_2100, "allowed"), PlanWindow("seven_day")])
    here.sync()
    there.sync()
    assert theirs.plans() == ours.plans()
    now[0] = 2_000
    theirs.observe("claude", [PlanWindow("five_hour", 1.0, IN_2100, "rejected")])
    there.sync()
    now[0] = 1_500
    ours.observe("claude", [PlanWindow("five_hour", 0.6)])  # earlier, and written later
    here.sync()
    fresh = PlanWindows(lambda: now[0])
    PlanStore(store.database, fresh).sync()
    for known in (ours, theirs, fresh):
        assert [(one.name, one.used, one.status) for plan in known.plans() for one in sorted(plan.windows, key=lambda one: one.name)] == [
            ("five_hour", 1.0, "rejected"),
            ("seven_day", None, None),
        ]
        assert known.rejected_until("claude") == IN_2100
