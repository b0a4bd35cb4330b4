"""Rate limits: a token bucket per caller on the routes that start a CLI (`blueprints.marks`), through Flask-Limiter.

Flask-Limiter's own windows cannot say "``burst`` at once, then ``rps`` a second": a window of burst/rps seconds must be a
whole number of seconds for Redis, and gives the whole burst back at once. So the strategy is ours (GCRA: one number per
caller, the time at which its bucket is full again); storage, fallback and bookkeeping are Flask-Limiter's.

When Redis does not answer, each process counts in its own memory until Redis is back (Flask-Limiter looks again after
1, 2, 4… seconds), and the log says so: an outage neither opens the server nor closes it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import flask
from flask import request
from flask_limiter import Limiter, RateLimitExceeded
from limits import RateLimitItem, WindowStats
from limits.storage import RedisStorage
from limits.strategies import STRATEGIES, RateLimiter

from app.config.schema import ServerSettings
from app.observability.context import request_of
from app.security.proxies import to_limit_key
from blueprints.marks import marks_of
from services.errors import RateLimited

REDIS_TIMEOUT_S = 1.0
SWEEP_AT_KEYS = 4096
LIMIT_KEYS = 65_536
"""Of so many callers at a time the account is kept in memory (some 10 MB); past that the oldest are forgotten."""
GRAIN = 1e-9
"""Below this the arithmetic of clock readings is not exact."""

TAKE = """
local now = redis.call('TIME')
now = now[1] + now[2] / 1e6
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local cost, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local backlog = full_at - now
if backlog + cost > limit then return {0, string.format('%.6f', backlog)} end
if cost > 0 then
  backlog = backlog + cost
  redis.call('SET', KEYS[1], string.format('%.6f', now + backlog), 'PX', math.ceil(backlog * 1000))
end
return {1, string.format('%.6f', backlog)}
"""
"""One step of `Backlogs.take` in Redis' own time, so that several servers' clocks need not agree."""


class Backlogs(Protocol):
    """Per key, how many seconds of the sustained rate are used up already."""

    def take(self, key: str, cost_s: float, limit_s: float) -> tuple[bool, float]:
        """Add ``cost_s`` if that stays within ``limit_s``: whether it did, and the backlog now."""


class InMemory:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[str, float] = {}
        self._sweep_at = SWEEP_AT_KEYS

    def take(self, key: str, cost_s: float, limit_s: float) -> tuple[bool, float]:
        now = self._clock()
        backlog = max(self._full_at.get(key, 0.0) - now, 0.0)
        if backlog + cost_s > limit_s + GRAIN:
            return False, backlog
        if cost_s:
            self._full_at[key] = now + backlog + cost_s
            if len(self._full_at) >= self._sweep_at:
                self._sweep(now)
        return True, backlog + cost_s

    def _sweep(self, now: float) -> None:
        """Forget full buckets: an unknown key has one, too. Doubling keeps the cost of a request constant on average."""
        kept = [(key, at) for key, at in self._full_at.items() if at > now]
        self._full_at = dict(kept[-LIMIT_KEYS // 2 :])
        self._sweep_at = max(SWEEP_AT_KEYS, 2 * len(self._full_at))


@dataclass(frozen=True, slots=True)
class Counts:
    """What a process has counted in its memory. A renewed configuration goes on with it."""

    runs: InMemory = field(default_factory=InMemory)
    wrong_keys: InMemory = field(default_factory=InMemory)


class InRedis:
    def __init__(self, storage: RedisStorage) -> None:
        self._prefixed = storage.prefixed_key
        self._script = storage.get_connection().register_script(TAKE.encode())

    def take(self, key: str, cost_s: float, limit_s: float) -> tuple[bool, float]:
        is_allowed, backlog = self._script([self._prefixed(key)], [repr(cost_s), repr(limit_s + 1e-6)])
        return bool(is_allowed), float(backlog)


class TokenBucket(RateLimiter):
    """Flask-Limiter's strategy: ``burst`` requests at once, ``rps`` a second sustained. The item only carries the burst."""

    def __init__(self, storage: Any, *, rps: float, burst: int, in_memory: InMemory) -> None:
        super().__init__(storage)
        self._backlogs: Backlogs = InRedis(storage) if isinstance(storage, RedisStorage) else in_memory
        self._interval_s = 1 / rps
        self._limit_s = burst / rps

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return self._backlogs.take(item.key_for(*identifiers), cost * self._interval_s, self._limit_s)[0]

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return self._peek(item, *identifiers) + cost * self._interval_s <= self._limit_s + GRAIN

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """When there is something again (an empty bucket: the next request; else: all of it), and how many requests are left."""
        backlog = self._peek(item, *identifiers)
        remaining = max(0, math.floor((self._limit_s - backlog) / self._interval_s + GRAIN))
        wait_s = backlog if remaining else backlog + self._interval_s - self._limit_s
        return WindowStats(time.time() + wait_s, remaining)

    def _peek(self, item: RateLimitItem, *identifiers: str) -> float:
        return self._backlogs.take(item.key_for(*identifiers), 0.0, self._limit_s)[1]


class WrongKeys:
    """A bucket per address that only wrong keys empty; past it they are answered 429. Per process, in memory, also where
    requests are not limited. Right keys are not its business: many clients may share one address (a proxy, a NAT)."""

    def __init__(self, backlogs: InMemory, *, rps: float, burst: int) -> None:
        self._backlogs = backlogs
        self._interval_s = 1 / rps
        self._limit_s = burst / rps

    def take(self, address: str) -> bool:
        """Count one wrong key. False: this address has sent too many."""
        return self._backlogs.take(to_limit_key(address), self._interval_s, self._limit_s)[0]

    def refusal(self, address: str) -> RateLimited:
        _, backlog = self._backlogs.take(to_limit_key(address), 0.0, self._limit_s)
        return RateLimited("too many requests with a wrong API key", retry_after_s=max(0.0, backlog + self._interval_s - self._limit_s))


def limit_runs(app: flask.Flask, server: ServerSettings, counted: InMemory, answer: Callable[[Exception], flask.Response]) -> None:
    """Limit the routes that run something, all of them together, per caller. Call it when they are registered.

    ``counted`` is used where Redis is not.
    """
    rps, burst = server.rate_limit_rps, server.rate_limit_burst
    strategy = f"clinvk-token-bucket-{rps:g}-{burst}"
    STRATEGIES[strategy] = partial(TokenBucket, rps=rps, burst=burst, in_memory=counted)  # type: ignore[assignment]
    limiter = Limiter(
        key_func=to_limit_key_of_request,
        app=app,
        strategy=strategy,
        storage_uri=server.rate_limit_storage,
        storage_options=_storage_options(server.rate_limit_storage),
        in_memory_fallback_enabled=True,
        headers_enabled=False,  # its Retry-After would go out with every answer, successes too
        key_prefix="clinvk",
    )
    # It would look for limits of every route at every request (70 µs, more than Flask itself). Ours are on the views.
    app.before_request_funcs[None].remove(limiter._check_request_limit)
    shared = limiter.shared_limit(f"{burst} per second", scope="runs")
    for endpoint, view in app.view_functions.items():
        if marks_of(view).runs_cli:
            app.view_functions[endpoint] = shared(view)  # type: ignore[assignment]

    @app.errorhandler(RateLimitExceeded)
    def refuse(error: RateLimitExceeded) -> flask.Response:
        limit = limiter.current_limit
        wait_s = limit.window[0] - time.time() if limit else 1 / rps
        who = "this API key" if request_of(request.environ).key_name else "this address"
        return answer(RateLimited(f"{who} may send {rps:g} requests a second, {burst} at once", retry_after_s=wait_s))

    @app.after_request
    def tell_limit(response: flask.Response) -> flask.Response:
        if request_of(request.environ).is_limited and (limit := limiter.current_limit):
            reset_at, remaining = limit.window
            response.headers["X-RateLimit-Limit"] = str(burst)
            response.headers["X-RateLimit-Remaining"] = str(remaining)
            response.headers["X-RateLimit-Reset"] = str(math.ceil(reset_at))
        return response


def to_limit_key_of_request() -> str:
    current = request_of(request.environ)
    current.is_limited = True
    return f"key:{current.key_name}" if current.key_name else to_limit_key(request.remote_addr or "unknown")


def _storage_options(uri: str) -> dict[str, Any]:
    if uri.startswith("memory"):
        return {}
    from redis.backoff import NoBackoff  # an optional dependency, needed for Redis alone
    from redis.retry import Retry

    # redis-py would try again for several seconds, while a request waits.
    return {"socket_connect_timeout": REDIS_TIMEOUT_S, "socket_timeout": REDIS_TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
