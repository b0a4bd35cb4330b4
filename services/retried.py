"""Retry a run that fails before any output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from services.events import Batch, Failed, PlanUpdate, Started, UsageUpdate


def retried(batches: Iterable[Batch], again: Callable[[Failed], Iterable[Batch] | None]) -> Iterator[Batch]:
    """Pass batches through. If the run fails before any output, continue with those that ``again`` returns for the failure, if any.

    Events before the output are held back, because a second run repeats them. Empty batches are passed on at once.
    """
    batches = iter(batches)
    held: Batch = []
    for batch in batches:
        output = [event for event in batch if not isinstance(event, Started | UsageUpdate | PlanUpdate)]
        if not output:
            held += batch
            if not batch:
                yield batch
            continue
        if isinstance(output[0], Failed) and (others := again(output[0])) is not None:
            yield from others
            return
        yield held + batch
        break
    else:
        if held:
            yield held
    yield from batches
