"""Imports and the building of the application, without the garbage collector. Imports nothing else of clinvk: it comes first."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def making_what_stays() -> Iterator[None]:
    """Disable the collector meanwhile, and exempt from it what was made.

    A start makes about 300,000 objects that last as long as the process. Going through them again and again is a
    quarter of the CPU time of the imports, and most of that of the exit. Only for a start: an application that
    replaces this one (SIGHUP) is not exempt, or the old one would never be collected.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def patch_blocking_calls() -> None:
    """``gevent.monkey.patch_all()``, which looks for its plugins in every installed package 25 times. Here it looks once."""
    from importlib import metadata

    from gevent import monkey

    look = metadata.entry_points
    installed = look()
    metadata.entry_points = lambda *, group: installed.select(group=group)  # type: ignore[assignment]
    try:
        monkey.patch_all()
    finally:
        metadata.entry_points = look
