"""What one process has for the limits of keys, with runs that only take their time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
from sqlalchemy import func, select
from sqlalchemy.engine import URL

from services.access.access import Access
from services.access.rights import Budget, Rights
from services.admission import AdmissionControl, Slot
from services.cancellation import Cancellation
from services.clis.demo.spec import SPEC
from services.clis.spec import Invocation
from services.events import Failed, Finished, Started
from services.ledger.ledger import Ledger
from services.ledger.prices import Prices
from services.ledger.sums import Question, Sums, total
from services.quotas.quotas import Quotas
from services.requests import RunRequest
from services.store.schema import owners, slots
from services.store.sessions import SessionStore
from services.telemetry import RunTelemetry
from services.usage import Usage

ROOT = Path(__file__).parents[2]
REPORTING = replace(SPEC, name="claude", reports_cost=True)
FOR_EVER = 2**52


@dataclass(frozen=True)
class Begun:
    telemetry: RunTelemetry
    slot: Slot
    key_slot: str | None


@dataclass(frozen=True)
class QuotaDesk:
    sessions: SessionStore
    access: Access
    ledger: Ledger
    quotas: Quotas

    @property
    def id(self) -> str:
        return self.sessions.us().id

    def begin(self, owner: str = "anna", *, cancellation: Cancellation | None = None, backend: str = "claude", **more: Any) -> Begun:
        request = RunRequest(prompt="-", backend=backend, owner=owner, caller=owner, run_id="run_1", **more)
        spec = replace(REPORTING, name=backend)
        telemetry = RunTelemetry(Invocation(spec=spec, request=request, argv=(), env={}, cwd="/", stdin=b"", model="sonnet"))
        slot, key_slot = self.quotas.admit(request, cancellation or Cancellation())
        telemetry.spawned_at = monotonic()
        return Begun(telemetry, slot, key_slot)

    def end(self, run: Begun, end: Finished | Failed | None = None, model: str | None = None) -> Finished | Failed:
        run.telemetry.fold.add([Started(None, model), end or Finished(usage=Usage(100, 10, 40), cost_usd=0.01)])
        run.telemetry.ended_at = monotonic()
        run.slot.release()
        assert run.telemetry.end
        return self.quotas.settle(run.telemetry, run.telemetry.end, run.key_slot)

    def run(self, owner: str = "anna", end: Finished | Failed | None = None, *, model: str | None = None, **more: Any) -> Finished | Failed:
        return self.end(self.begin(owner, **more), end, model)

    def total(self, **filters: Any) -> Sums:
        return total(self.ledger.ask(Question(since=0, until=FOR_EVER, **filters)))

    def holders(self) -> int:
        """Slots that are held, over all processes."""
        with self.sessions.database.reading() as connection:
            return connection.execute(select(func.count()).select_from(slots).where(slots.c.waiting_since.is_(None))).scalar_one()

    def waiting(self) -> int:
        with self.sessions.database.reading() as connection:
            return connection.execute(select(func.count()).select_from(slots).where(slots.c.waiting_since.is_not(None))).scalar_one()

    def seem_dead(self) -> None:
        """To other processes, as if this one were on another machine and had not been seen for a long time."""
        change = owners.update().where(owners.c.id == self.id).values(place="elsewhere", seen_at=0)
        self.sessions.database.write(lambda connection: connection.execute(change))

    def close(self) -> None:
        self.ledger.close()
        self.sessions.close()


def open_quota_desk(
    url: URL,
    keys: Mapping[str, Rights] | None = None,
    *,
    prices: Prices | None = None,
    limit: int = 100,
    queue_limit: int = 1_000,
    queue_timeout_s: float = 60.0,
    **clock: Any,
) -> QuotaDesk:
    """``clock`` goes to the quotas."""
    store = SessionStore(url)
    store.open()
    access, ledger = Access(keys or {"anna": Rights()}), Ledger(store.database)
    admission = AdmissionControl(limit, queue_limit=queue_limit, queue_timeout_s=queue_timeout_s, backend_limits={})
    return QuotaDesk(store, access, ledger, Quotas(store.database, store.us, access, ledger, prices or Prices(), admission, **clock))


def until(condition: Callable[[], bool], within_s: float = 20) -> bool:
    """Whether it comes true while the greenlets go on."""
    deadline = monotonic() + within_s
    while not condition():
        if monotonic() > deadline:
            return False
        gevent.sleep(0.01)
    return True


def start_process(url: URL, runs: int, *, hold_s: float, cost_usd: float = 0.01, **rights: Any) -> subprocess.Popen[str]:
    """Another process that begins so many runs of the key `anna` at once. ``rights`` are those of the key, a budget as a dict."""
    asked = {"url": url.render_as_string(hide_password=False), "runs": runs, "hold_s": hold_s, "cost_usd": cost_usd, "rights": rights}
    command = [sys.executable, "-m", "tests.parts.quota_process", json.dumps(asked)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def report_of(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(out)


def to_rights(values: Mapping[str, Any]) -> Rights:
    budgets = tuple(Budget(**budget) for budget in values.get("budgets", ()))
    return Rights(**{**values, "budgets": budgets})
