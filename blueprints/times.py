"""Times in answers: RFC 3339, UTC, in milliseconds. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from time import gmtime, strftime, time_ns

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def now() -> str:
    second, rest_ns = divmod(time_ns(), 1_000_000_000)
    return f"{_second(second)}.{rest_ns // 1_000_000:03}Z"


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))


def to_time(microseconds: int) -> str:
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
