"""A run that fails before any output is started again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from services.events import Batch, Failed, Started, UsageUpdate


def retried(batches: Iterable[Batch], again: Callable[[Failed], Iterable[Batch] | None]) -> Iterator[Batch]:
    """The same batches; where the run fails before any output, those that ``again`` gives for the failure, if it gives any.

    What comes before the output is held back, because it comes again with a second run. Silence is passed on at once.
    """
    batches = iter(batches)
    held: Batch = []
    for batch in batches:
        output = [event for event in batch if not isinstance(event, Started | UsageUpdate)]
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
