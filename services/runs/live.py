"""The runs that this process executes or queues now. Every run of every surface is here meanwhile, in memory alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import time_ns

from services.cancellation import Cancellation
from services.events import Failed
from services.runs.record import Run, RunKind
from services.runs.work import RunFacts, Work

CANCELLED = Failed("cancelled", "the run was cancelled")


@dataclass(slots=True, eq=False, kw_only=True)
class LiveRun:
    """``work`` is None while the run waits for a slot."""

    id: str
    kind: RunKind
    owner: str
    request_id: str
    cancellation: Cancellation
    is_background: bool = False
    is_stored: bool = False
    """Whether the run store has it too."""
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    expected: RunFacts = RunFacts()
    """What the request says."""
    alias: str = ""
    """By which its owner may cancel it without knowing its id. Empty: none."""
    work: Work | None = None
    created_at: int = field(default_factory=lambda: time_ns() // 1000)
    started_at: int | None = None

    def begin(self, work: Work) -> None:
        self.work = work
        self.started_at = time_ns() // 1000

    @property
    def facts(self) -> RunFacts:
        return self.work.facts() if self.work else self.expected

    def cancel(self) -> None:
        self.cancellation.cancel(CANCELLED)

    def to_run(self) -> Run:
        """As the run store would hold it."""
        facts = self.facts
        return Run(
            id=self.id,
            kind=self.kind,
            owner=self.owner,
            is_background=self.is_background,
            request_id=self.request_id,
            title=self.title,
            tags=self.tags,
            metadata=self.metadata,
            status="running" if self.work else "queued",
            priority=0,
            session_id=facts.session_id,
            backend=facts.backend,
            model=facts.model,
            last_tool=facts.last_tool,
            passed_over=facts.passed_over,
            created_at=self.created_at,
            started_at=self.started_at,
        )


class LiveRuns:
    """One per process."""

    def __init__(self) -> None:
        self._runs: dict[str, LiveRun] = {}

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(tuple(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, id: str) -> LiveRun | None:
        return self._runs.get(id)

    def enter(self, run: LiveRun) -> None:
        self._runs[run.id] = run

    def leave(self, run: LiveRun) -> None:
        self._runs.pop(run.id, None)

    @contextmanager
    def entered(self, run: LiveRun) -> Iterator[LiveRun]:
        self.enter(run)
        try:
            yield run
        finally:
            self.leave(run)
