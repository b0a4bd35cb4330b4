"""Rate limits: a token bucket per caller on the routes that start a CLI (`blueprints.marks`), through Flask-Limiter.

Flask-Limiter's windows cannot express "``burst`` at once, then ``rps`` a second": Redis needs a window of whole seconds, and
a window restores the whole burst at once. The strategy is therefore our own (GCRA: one number per caller, the time at which
its bucket is full again); storage, fallback and bookkeeping are Flask-Limiter's.

If Redis does not respond, each process counts in its own memory and logs this. Flask-Limiter retries Redis after 1, 2, 4…
seconds. An outage neither disables the limits nor blocks requests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
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
from blueprints.marks import View, marks_of
from services.errors import RateLimited

REDIS_TIMEOUT_S = 1.0
SWEEP_AT_KEYS = 4096
LIMIT_KEYS = 65_536
"""How many callers are tracked in memory (some 10 MB); beyond that the oldest are dropped."""
GRAIN = 1e-9
"""Tolerance for rounding errors in clock arithmetic."""

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
"""`Backlogs.take` as a Lua script on Redis's clock, so that the servers' clocks need not agree."""


class Backlogs(Protocol):
    """Per key, the seconds of the sustained rate that are already used."""

    def take(self, key: str, cost_s: float, limit_s: float) -> tuple[bool, float]:
        """Add ``cost_s`` unless that exceeds ``limit_s``. Returns whether it was added, and the backlog."""


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
        """Drop full buckets, since an unknown key has a full one too. Doubling the threshold keeps the amortized cost constant."""
        kept = [(key, at) for key, at in self._full_at.items() if at > now]
        self._full_at = dict(kept[-LIMIT_KEYS // 2 :])
        self._sweep_at = max(SWEEP_AT_KEYS, 2 * len(self._full_at))


@dataclass(frozen=True, slots=True)
class Counts:
    """The in-memory counters of a process. They survive a configuration reload."""

    runs: InMemory = field(default_factory=InMemory)
    wrong_keys: InMemory = field(default_factory=InMemory)


class InRedis:
    def __init__(self, storage: RedisStorage) -> None:
        self._prefixed = storage.prefixed_key
        self._script = storage.get_connection().register_script(TAKE.encode())

    def take(self, key: str, cost_s: float, limit_s: float) -> tuple[bool, float]:
        is_allowed, backlog = self._script([self._prefixed(key)], [repr(cost_s), repr(limit_s + 1e-6)])
        return bool(is_allowed), float(backlog)


@dataclass(frozen=True, slots=True)
class Pace:
    """``burst`` requests at once, ``rps`` a second sustained."""

    rps: float
    burst: int

    @property
    def interval_s(self) -> float:
        return 1 / self.rps

    @property
    def limit_s(self) -> float:
        return self.burst / self.rps


class TokenBucket(RateLimiter):
    """A Flask-Limiter strategy: each request is limited by the pace of its caller. The item carries none of it."""

    def __init__(self, storage: Any, *, pace: Callable[[], Pace], in_memory: InMemory) -> None:
        super().__init__(storage)
        self._backlogs: Backlogs = InRedis(storage) if isinstance(storage, RedisStorage) else in_memory
        self._pace = pace

    def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        pace = self._pace()
        return self._backlogs.take(item.key_for(*identifiers), cost * pace.interval_s, pace.limit_s)[0]

    def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        pace = self._pace()
        return self._peek(item, *identifiers) + cost * pace.interval_s <= pace.limit_s + GRAIN

    def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """The reset time (empty bucket: when the next request is allowed; otherwise: when it is full), and the requests left."""
        pace, backlog = self._pace(), self._peek(item, *identifiers)
        remaining = max(0, math.floor((pace.limit_s - backlog) / pace.interval_s + GRAIN))
        wait_s = backlog if remaining else backlog + pace.interval_s - pace.limit_s
        return WindowStats(time.time() + wait_s, remaining)

    def _peek(self, item: RateLimitItem, *identifiers: str) -> float:
        return self._backlogs.take(item.key_for(*identifiers), 0.0, self._pace().limit_s)[1]


class WrongKeys:
    """A bucket per address that only wrong keys drain; when it is empty they get 429. Per process, in memory, also if rate limits
    are off. Valid keys are not affected: many clients may share one address (a proxy, a NAT)."""

    def __init__(self, backlogs: InMemory, *, rps: float, burst: int) -> None:
        self._backlogs = backlogs
        self._interval_s = 1 / rps
        self._limit_s = burst / rps

    def take(self, address: str) -> bool:
        """Count one wrong key. Returns False if the address has sent too many."""
        return self._backlogs.take(to_limit_key(address), self._interval_s, self._limit_s)[0]

    def refusal(self, address: str) -> RateLimited:
        _, backlog = self._backlogs.take(to_limit_key(address), 0.0, self._limit_s)
        return RateLimited("too many requests with a wrong API key", retry_after_s=max(0.0, backlog + self._interval_s - self._limit_s))


def limit_runs(app: flask.Flask, server: ServerSettings, counted: InMemory, answer: Callable[[Exception], flask.Response]) -> None:
    """Limit each caller on the routes that start a run, all together. Call it after they are registered.

    A key's own limit takes the place of the server's, and counts also where that is off. ``counted`` holds the counters if Redis is
    not used.
    """
    everybody = Pace(server.rate_limit_rps, server.rate_limit_burst)

    def pace() -> Pace:
        """Of the request."""
        rights = request_of(request.environ).rights
        if not rights.has_own_rate:
            return everybody
        return Pace(rights.rate_limit_rps or everybody.rps, rights.rate_limit_burst or everybody.burst)

    strategy = f"clinvk-token-bucket-{everybody.rps:g}-{everybody.burst}"
    STRATEGIES[strategy] = partial(TokenBucket, pace=pace, in_memory=counted)  # type: ignore[assignment]
    limiter = Limiter(
        key_func=to_limit_key_of_request,
        app=app,
        strategy=strategy,
        storage_uri=server.rate_limit_storage,
        storage_options=_storage_options(server.rate_limit_storage),
        in_memory_fallback_enabled=True,
        headers_enabled=False,  # it would add Retry-After to every response, even successful ones
        key_prefix="clinvk",
    )
    # This hook looks up the limits of the route on every request (70 µs, more than Flask itself). Ours are on the views.
    app.before_request_funcs[None].remove(limiter._check_request_limit)
    shared = limiter.shared_limit(f"{everybody.burst} per second", scope="runs")

    def limited(view: View) -> View:
        checked: View = shared(view)
        if server.rate_limit_enabled:
            return checked
        return wraps(view)(lambda *args, **named: (checked if request_of(request.environ).rights.has_own_rate else view)(*args, **named))

    for endpoint, view in app.view_functions.items():
        if marks_of(view).runs_cli:
            app.view_functions[endpoint] = limited(view)

    app.extensions["clinvk.count_run"] = limited(_count)

    @app.errorhandler(RateLimitExceeded)
    def refuse(error: RateLimitExceeded) -> flask.Response:
        limit = limiter.current_limit
        own = pace()
        wait_s = limit.window[0] - time.time() if limit else own.interval_s
        who = "this API key" if request_of(request.environ).key_name else "this address"
        return answer(RateLimited(f"{who} may send {own.rps:g} requests a second, {own.burst} at once", retry_after_s=wait_s))

    @app.after_request
    def tell_limit(response: flask.Response) -> flask.Response:
        if request_of(request.environ).is_limited and (limit := limiter.current_limit):
            reset_at, remaining = limit.window
            response.headers["X-RateLimit-Limit"] = str(pace().burst)
            response.headers["X-RateLimit-Remaining"] = str(remaining)
            response.headers["X-RateLimit-Reset"] = str(math.ceil(reset_at))
        return response


def _count() -> None:
    """Nothing: its decorator counts."""


def to_limit_key_of_request() -> str:
    current = request_of(request.environ)
    current.is_limited = True
    return f"key:{current.key_name}" if current.key_name else to_limit_key(request.remote_addr or "unknown")


def _storage_options(uri: str) -> dict[str, Any]:
    if uri.startswith("memory"):
        return {}
    from redis.backoff import NoBackoff  # an optional dependency, needed for Redis alone
    from redis.retry import Retry

    # redis-py would retry for several seconds while a request waits.
    return {"socket_connect_timeout": REDIS_TIMEOUT_S, "socket_timeout": REDIS_TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
