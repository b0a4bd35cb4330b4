"""Rate limits: what a token bucket promises, who is counted together, and what happens when the storage is gone."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from limits import parse
from limits.storage import MemoryStorage

from app.security.rate_limit import LIMIT_KEYS, SWEEP_AT_KEYS, InMemory, Pace, TokenBucket
from blueprints.marks import marks_of
from services.access.rights import Rights
from tests.parts.processes import eventually
from tests.parts.programs import require_program
from tests.unit.app.parts import LOCAL, ask, make_app


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run_app(*keys: str, burst: int = 3, rps: float = 0.01, **server: Any) -> Flask:
    """So slow a rate that nothing comes back during a test."""
    return make_app(*keys, rate_limit_enabled=True, rate_limit_burst=burst, rate_limit_rps=rps, **server)


def run(app: Flask, path: str = "/api/v1/prompt", address: str = "127.0.0.1", key: str | None = None, **headers: str) -> Any:
    sent = {**({"X-Api-Key": key} if key else {}), **headers}
    return ask(app, path, sent, method="POST", json={}, environ_base={**LOCAL, "REMOTE_ADDR": address})


def test_the_burst_goes_through_and_then_the_sustained_rate() -> None:
    clock, cost_s, limit_s = Clock(), 1 / 10, 20 / 10  # rps 10, burst 20
    bucket = InMemory(clock)

    def passed(requests: int) -> int:
        return sum(bucket.take("k", cost_s, limit_s)[0] for _ in range(requests))

    assert passed(50) == 20
    clock.now += 1.0
    assert passed(50) == 10
    for _ in range(100):
        clock.now += 0.1
        assert passed(5) == 1
    clock.now += 1000
    assert passed(50) == 20


@pytest.mark.parametrize(("rps", "burst"), [(10, 5), (3, 20), (0.5, 1), (1000, 1), (7, 13), (1 / 60, 2)])
def test_any_rate_and_any_burst_hold_exactly(rps: float, burst: int) -> None:
    clock = Clock()
    bucket = InMemory(clock)
    passed = 0
    for _ in range(4000):
        passed += bucket.take("k", 1 / rps, burst / rps)[0]
        clock.now += 0.25 / rps
    assert passed == pytest.approx(burst + 1000, abs=2)


def test_keys_are_counted_apart_and_full_buckets_forgotten() -> None:
    clock = Clock()
    bucket = InMemory(clock)
    for number in range(SWEEP_AT_KEYS * 3):
        assert bucket.take(f"address-{number}", 0.1, 0.1)[0]
        clock.now += 0.1
    assert len(bucket._full_at) <= SWEEP_AT_KEYS


def test_over_the_limit_is_429_and_says_when() -> None:
    app = run_app(burst=2, rps=0.1)
    for _ in range(2):
        assert run(app).status_code != 429
    answer = run(app)
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert answer.headers["X-RateLimit-Limit"] == "2"
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert 0 < int(answer.headers["X-RateLimit-Reset"]) - time.time() <= 11
    assert answer.get_json()["error"]["code"] == "rate_limit_exceeded"


def test_answers_under_the_limit_tell_what_is_left_and_do_not_ask_to_wait() -> None:
    app = run_app(burst=3)
    answers = [run(app) for _ in range(3)]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0"]
    assert not any("Retry-After" in answer.headers for answer in answers)


def test_only_what_runs_something_is_limited() -> None:
    app = run_app(burst=1)
    for path in ("/health", "/api/v1/echo", "/openapi.json", "/api/v1/unknown"):
        for _ in range(3):
            answer = ask(app, path)
            assert answer.status_code != 429
            assert "X-RateLimit-Limit" not in answer.headers


def test_each_key_has_its_own_bucket_wherever_it_comes_from() -> None:
    app = run_app("a=one", "b=two", burst=1)
    assert run(app, key="one", address="127.0.0.1").status_code != 429
    assert run(app, key="one", address="127.0.0.2").status_code == 429
    assert run(app, key="two", address="127.0.0.1").status_code != 429


def test_without_keys_each_address_has_its_own_bucket() -> None:
    app = run_app(burst=1, host="0.0.0.0")
    assert run(app, address="192.0.2.1").status_code != 429
    assert run(app, address="192.0.2.1").status_code == 429
    assert run(app, address="192.0.2.2").status_code != 429
    assert run(app, address="2a00::1").status_code != 429
    assert run(app, address="2a00::2").status_code == 429


def test_an_address_is_the_clients_not_the_proxys() -> None:
    app = run_app(burst=1, trusted_proxies=["127.0.0.1"])
    assert run(app, **{"X-Forwarded-For": "192.0.2.1"}).status_code != 429
    assert run(app, **{"X-Forwarded-For": "192.0.2.2"}).status_code != 429
    assert run(app, **{"X-Forwarded-For": "192.0.2.2"}).status_code == 429


def test_wrong_keys_are_limited_and_a_right_key_passes_from_the_same_address() -> None:
    app = run_app("right", burst=3)
    statuses = [run(app, key=f"guess-{number}").status_code for number in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert run(app, key="right").status_code not in (401, 429)
    assert run(app, key="guess", address="127.0.0.9").status_code == 401
    assert ask(app, "/health").status_code == 200


def test_wrong_keys_are_slowed_down_also_where_requests_are_not_limited() -> None:
    app = make_app("right", rate_limit_enabled=False, rate_limit_burst=2, rate_limit_rps=0.01)
    assert [run(app, key="right").status_code == 429 for _ in range(5)] == [False] * 5
    assert [run(app).status_code for _ in range(5)] == [401] * 5, "who sends no key tries none"
    assert [run(app, key="guess").status_code for _ in range(3)] == [401, 401, 429]
    answer = run(app, key="another guess")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(answer.headers["Retry-After"]) >= 1
    assert "X-RateLimit-Limit" not in answer.headers


def test_what_is_kept_of_callers_is_bounded_however_many_they_are() -> None:
    bucket = InMemory(Clock())
    for number in range(LIMIT_KEYS * 3):
        assert bucket.take(f"address-{number}", 1.0, 20.0)[0]
    assert len(bucket._full_at) <= LIMIT_KEYS


def test_switched_off_nothing_is_limited() -> None:
    app = make_app(rate_limit_burst=1, rate_limit_rps=0.01)
    answers = [run(app) for _ in range(5)]
    assert not any(answer.status_code == 429 or "X-RateLimit-Limit" in answer.headers for answer in answers)


OWN = {"own": Rights(rate_limit_rps=0.02, rate_limit_burst=2), "rps": Rights(rate_limit_rps=0.02), "burst": Rights(rate_limit_burst=2)}


def with_own_limits(**server: Any) -> Flask:
    """An application with the keys of `OWN`, and one that has no limit of its own."""
    app = make_app(*(f"{name}={name}-key" for name in (*OWN, "other")), rate_limit_burst=4, rate_limit_rps=0.01, **server)
    app.extensions["clinvk"].access.replace({**OWN, "other": Rights()})
    return app


def refusals(app: Flask, name: str, requests: int = 6) -> list[bool]:
    return [run(app, key=f"{name}-key").status_code == 429 for _ in range(requests)]


@pytest.mark.parametrize("is_enabled", [True, False])
@pytest.mark.parametrize("name", OWN)
def test_a_key_s_own_limit_counts_whether_or_not_the_server_has_one(name: str, is_enabled: bool) -> None:
    app = with_own_limits(rate_limit_enabled=is_enabled)
    burst = OWN[name].rate_limit_burst or 4
    assert refusals(app, name) == [number >= burst for number in range(6)]
    answer = run(app, key=f"{name}-key")
    assert answer.headers["X-RateLimit-Limit"] == str(burst)
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert 0 < int(answer.headers["Retry-After"]) <= 1 / (OWN[name].rate_limit_rps or 0.01)
    message = answer.get_json()["error"]["message"]
    assert f"{OWN[name].rate_limit_rps or 0.01:g} requests a second, {burst} at once" in message


@pytest.mark.parametrize("is_enabled", [True, False])
def test_other_keys_have_the_server_s_limit_or_none(is_enabled: bool) -> None:
    app = with_own_limits(rate_limit_enabled=is_enabled)
    refusals(app, "own")
    assert refusals(app, "other") == [is_enabled and number >= 4 for number in range(6)]
    assert ("X-RateLimit-Limit" in run(app, key="other-key").headers) is is_enabled


def test_a_key_s_own_limit_changes_while_the_server_runs() -> None:
    app = with_own_limits()
    assert refusals(app, "own", 3) == [False, False, True]
    app.extensions["clinvk"].access.replace({"own": Rights(rate_limit_rps=0.02, rate_limit_burst=3)})
    assert refusals(app, "own", 2) == [False, True]


def test_applications_do_not_share_their_buckets() -> None:
    assert run(run_app(burst=1)).status_code != 429
    assert run(run_app(burst=1)).status_code != 429


def test_when_redis_is_gone_each_process_counts_for_itself_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    app = run_app(burst=2, rate_limit_storage="redis://127.0.0.1:1/0")
    started_at = time.monotonic()
    with caplog.at_level(logging.WARNING):
        statuses = [run(app).status_code for _ in range(3)]
    assert time.monotonic() - started_at < 5
    assert 500 not in statuses
    assert [status == 429 for status in statuses] == [False, False, True]
    assert "storage unreachable" in caplog.text


def test_the_strategy_tells_what_is_left() -> None:
    item = parse("4 per second")
    bucket = TokenBucket(MemoryStorage(), pace=lambda: Pace(0.5, 4), in_memory=InMemory())
    assert bucket.test(item, "k")
    assert bucket.get_window_stats(item, "k").remaining == 4
    assert [bucket.hit(item, "k") for _ in range(5)] == [True, True, True, True, False]
    assert not bucket.test(item, "k")
    stats = bucket.get_window_stats(item, "k")
    assert stats.remaining == 0
    assert 1 < stats.reset_time - time.time() <= 2.1


@pytest.fixture
def redis_uri(tmp_path: Path) -> Iterator[str]:
    """A Redis of its own on a Unix socket."""
    program = require_program("redis-server")
    path = tmp_path / "redis.sock"
    with subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(path), "--save", ""], cwd=tmp_path, stdout=subprocess.DEVNULL
    ) as process:
        assert eventually(path.exists)
        yield f"redis+unix://{path}"
        process.terminate()


def test_redis_counts_for_all_processes_together(redis_uri: str) -> None:
    one, other = (run_app("a=one", "b=two", burst=3, rate_limit_storage=redis_uri) for _ in range(2))
    assert [run(app, key="one").status_code == 429 for app in (one, other, one, other, one)] == [False, False, False, True, True]
    answer = run(other, key="two")
    assert answer.headers["X-RateLimit-Remaining"] == "2"
    refused = run(other, key="one")
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["Retry-After"]) <= 100


def test_redis_counts_a_key_s_own_limit_for_all_processes_together(redis_uri: str) -> None:
    one, other = (with_own_limits(rate_limit_storage=redis_uri) for _ in range(2))
    assert [run(app, key="own-key").status_code == 429 for app in (one, other, one, other)] == [False, False, True, True]
    assert refusals(one, "other") == [False] * 6


def test_redis_gives_back_at_the_sustained_rate(redis_uri: str) -> None:
    app = run_app(burst=2, rps=20, rate_limit_storage=redis_uri)
    assert eventually(lambda: run(app).status_code == 429)
    assert eventually(lambda: run(app).status_code != 429)


def test_every_route_that_runs_something_takes_one_from_the_same_bucket() -> None:
    app = run_app(burst=50)
    rules = {rule.rule for rule in app.url_map.iter_rules() if marks_of(app.view_functions[rule.endpoint]).runs_cli}
    assert {"/api/v1/prompt", "/openai/v1/chat/completions", "/anthropic/v1/messages"} <= rules
    aliases = ("/anthropic/v1/v1/messages", "/v1/messages", "/v1/v1/messages", "/v1/chat/completions", "/openai/responses", "/responses")
    paths = [*sorted(rules), *aliases]
    left = [int(run(app, path.replace("<session_id>", "x")).headers["X-RateLimit-Remaining"]) for path in paths]
    assert left == list(range(49, 49 - len(paths), -1))
