"""The workers of a pool that serve no more runs, until nothing is left of them."""

from __future__ import annotations

from collections.abc import Iterator

import gevent

from services.execution.worker import Worker


class Closing:
    def __init__(self) -> None:
        self._greenlets: dict[Worker, gevent.Greenlet] = {}
        self._hurrying: list[gevent.Greenlet] = []
        self._waits_for_runs = True

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._greenlets))

    def end(self, worker: Worker) -> gevent.Greenlet:
        """End the worker, once. The greenlet ends when it has gone."""
        if worker not in self._greenlets:
            self._greenlets[worker] = gevent.spawn(self._close, worker)
        return self._greenlets[worker]

    def hurry(self) -> None:
        """Wait for no runs any more, nor for those that workers already wait for."""
        self._waits_for_runs = False
        self._hurrying += [gevent.spawn(worker.close, wait_for_runs=False) for worker in self if not worker.is_idle]

    def join(self) -> None:
        """Returns when all have gone."""
        gevent.joinall([*self._greenlets.values(), *self._hurrying])

    def _close(self, worker: Worker) -> None:
        try:
            worker.close(wait_for_runs=self._waits_for_runs)
        finally:
            self._greenlets.pop(worker, None)
