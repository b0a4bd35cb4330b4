"""The limits of keys over HTTP, with two workers and keys in the configuration: what is past them is refused, also under 200 requests at
once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from tests.parts.client import Answer, Client
from tests.parts.clis import FakeCli, do
from tests.parts.processes import descendants, eventually
from tests.parts.server import Server

CROWD = 200
"""Requests at once."""
ASKS = 12
"""Requests that reach both workers: each is a connection of its own."""
RUN_USD = 0.25
"""What a run of either scripted CLI costs: `claude` says so itself, `codex` by `PRICES`."""
RUN_TOKENS = 18
"""Its input and output, without cached input."""
PRICES = {"codex/*": {"input": 10_000, "cached": 10_000, "output": 20_000}}

KEYS: dict[str, dict[str, Any]] = {
    "root": {"role": "admin"},
    "runs": {"budget": {"runs": 23, "per": "month"}},
    "usd": {"budget": {"usd": 4 * RUN_USD, "per": "month"}, "max_concurrent_runs": 2},
    "tokens": {"budget": {"tokens": 4 * RUN_TOKENS, "per": "month"}, "max_concurrent_runs": 2},
    "two": {"max_concurrent_runs": 2},
    "impatient": {"max_concurrent_runs": 1, "max_waiting_runs": 0},
    "once": {"budget": {"runs": 1, "per": "month"}, "max_concurrent_runs": 1},
    "thrice": {"budget": {"runs": 3, "per": "month"}},
    "spent": {"budget": {"runs": 1, "per": "month"}},
    "narrow": {
        "backends": ["codex"],
        "max_sandbox_mode": "read-only",
        "max_concurrent_runs": 2,
        "max_waiting_runs": 0,
        "budget": {"usd": 1, "per": "day"},
    },
}


@dataclass(frozen=True)
class Place:
    server: Server
    folder: Path
    """The only one of the key ``narrow``."""

    def client(self, key: str) -> Client:
        return Client(self.server.url, {"X-Api-Key": f"{key}-0123456789abcdef"})

    def crowd(self, key: str, *steps: list[Any], count: int = CROWD) -> list[Answer]:
        """The answers to so many requests at once."""
        client = self.client(key)
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: client.prompt("claude", do(*steps), ephemeral=True), range(count)))

    def used(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client(key).get("/api/v1/usage").json["total"]
        return found


def start(folder: Path, cli: FakeCli) -> Server:
    keys = [{"name": name, "key": f"{name}-0123456789abcdef", **rights} for name, rights in KEYS.items()]
    next(key for key in keys if key["name"] == "narrow")["workdirs"] = [str(folder / "mine")]
    backends = {"claude": cli.backend(warm={"max": 0}, env=cli.keeping), "codex": cli.app_server()}
    settings = {"api_keys": keys, "workers": 2, "max_concurrent_runs": 8}
    return Server(folder, {"default_backend": "claude", "backends": backends, "prices": PRICES, "server": settings})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("limits")
    for name in ("mine", "other"):
        (folder / name).mkdir()
    server = start(folder, FakeCli(folder / "reports"))
    yield Place(server, folder)
    server.stop()


def code(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.json["error"]["code"] if answer.status != 200 else answer.json["error"]


def refused_right(answer: Answer) -> str:
    assert code(answer) == (403, "permission_denied"), answer.body
    right: str = answer.json["error"]["details"]["right"]
    return right


def test_a_budget_of_runs_is_exact(place: Place) -> None:
    answers = place.crowd("runs", ["spawner"])
    assert Counter(map(code, answers)) == {(200, None): 23, (429, "budget_exceeded"): CROWD - 23}
    assert len({answer.json["output"] for answer in answers if answer.status == 200}) == 2, "both workers have run some"
    refused = next(answer for answer in answers if answer.status == 429)
    details = refused.json["error"]["details"]
    assert (details["unit"], details["amount"], details["used"]) == ("runs", 23, 23)
    left_s = (datetime.fromisoformat(details["resets_at"]) - datetime.now(UTC)).total_seconds()
    assert int(refused.headers["Retry-After"]) == pytest.approx(left_s, abs=60)
    assert place.used("runs")["runs"] == 23


@pytest.mark.parametrize("key", ["usd", "tokens"])
def test_a_budget_of_what_runs_use_is_passed_by_those_that_were_going_at_most(place: Place, key: str) -> None:
    counts = Counter(map(code, place.crowd(key, ["say", "hello"])))
    runs = counts.pop((200, None))
    assert runs in (4, 5)  # the fourth uses the budget up; one other may have begun before it ended
    assert counts == {(429, "budget_exceeded"): CROWD - runs}
    used = place.used(key)
    assert (used["runs"], used["cost_usd"]) == (runs, runs * RUN_USD)
    assert used["input_tokens"] - used["cached_tokens"] + used["output_tokens"] == runs * RUN_TOKENS


def test_a_key_never_has_more_runs_at_once_than_it_may(place: Place, tmp_path: Path) -> None:
    path = str(tmp_path / "going")
    answers = place.crowd("two", ["append", path, "+"], ["wait", 0.02], ["append", path, "-"], ["spawner"], count=30)
    assert Counter(map(code, answers)) == {(200, None): 30}
    assert len({answer.json["output"] for answer in answers}) == 2, "both workers have run some"
    going = list(accumulate({"+": 1, "-": -1}[change] for change in Path(path).read_text()))
    assert (len(going), max(going)) == (60, 2)


def test_a_key_whose_runs_may_not_wait_is_refused_by_every_worker(place: Place, tmp_path: Path) -> None:
    client, go = place.client("impatient"), tmp_path / "go"
    with client.prompt_stream("claude", do(["say", "begun"], ["wait_for", str(go)])) as stream:
        next(stream.lines())
        for _ in range(ASKS):
            refused = client.prompt("claude", "hello")
            assert code(refused) == (429, "rate_limit_exceeded")
            assert int(refused.headers["Retry-After"]) > 0
        go.touch()
    assert eventually(lambda: client.prompt("claude", "hello").status == 200)


def test_a_run_in_the_background_fails_when_the_budget_is_used_up_before_its_turn(place: Place, tmp_path: Path) -> None:
    client, go = place.client("once"), tmp_path / "go"
    with client.prompt_stream("claude", do(["say", "begun"], ["wait_for", str(go)])) as stream:
        next(stream.lines())
        submitted = client.prompt("claude", "hello", background=True)
        assert submitted.status == 202, submitted.body
        go.touch()
        assert list(stream.lines())[-1].json["type"] == "done"
    run = client.get(f"/api/v1/runs/{submitted.json['id']}?wait=30").json
    assert (run["status"], run["error"]["code"]) == ("failed", "budget_exceeded")
    assert place.used("once")["runs"] == 1


def test_tasks_past_a_budget_fail_and_the_others_do_not(place: Place) -> None:
    answer = place.client("thrice").post("/api/v1/parallel", {"tasks": [{"prompt": f"task {number}"} for number in range(5)]})
    assert (answer.status, answer.json["completed"], answer.json["failed"]) == (200, 3, 2)
    assert [result["error_code"] for result in answer.json["results"]].count("budget_exceeded") == 2
    assert place.used("thrice")["runs"] == 3


@pytest.fixture(scope="module")
def spent(place: Place) -> Client:
    """A client whose budget is used up by the one run of its only session."""
    client = place.client("spent")
    assert client.prompt("claude", "hello").status == 200
    return client


def test_a_refused_turn_leaves_its_session_as_it_was(spent: Client) -> None:
    (session,) = (one["id"] for one in spent.get("/api/v1/sessions").json["sessions"])
    assert code(spent.post(f"/api/v1/sessions/{session}/resume", {"prompt": "more"})) == (429, "budget_exceeded")
    later = spent.post(f"/api/v1/sessions/{session}/resume", {"prompt": "more", "background": True}).json["id"]
    assert spent.get(f"/api/v1/runs/{later}?wait=30").json["error"]["code"] == "budget_exceeded"
    shown = spent.get(f"/api/v1/sessions/{session}").json
    assert (shown["status"], shown["turn_count"]) == ("idle", 1)


HELLO = [{"role": "user", "content": "hello"}]
SURFACES: dict[str, tuple[str, dict[str, Any], str]] = {
    # path, body, what its error has
    "native": ("/api/v1/prompt", {"prompt": "hello"}, '"code":"budget_exceeded"'),
    "native stream": ("/api/v1/prompt", {"prompt": "hello", "output_format": "stream-json"}, '"code":"budget_exceeded"'),
    "chat": ("/openai/v1/chat/completions", {"model": "claude", "messages": HELLO}, '"type":"insufficient_quota"'),
    "chat stream": ("/openai/v1/chat/completions", {"model": "claude", "messages": HELLO, "stream": True}, '"type":"insufficient_quota"'),
    "responses": ("/openai/v1/responses", {"model": "claude", "input": "hello"}, '"type":"insufficient_quota"'),
    "messages": ("/anthropic/v1/messages", {"model": "claude", "max_tokens": 9, "messages": HELLO}, '"type":"rate_limit_error"'),
}


@pytest.mark.parametrize("surface", SURFACES)
def test_every_surface_says_that_the_budget_is_used_up_and_no_client_need_try_again(spent: Client, surface: str) -> None:
    path, body, error = SURFACES[surface]
    answer = spent.post(path, body)
    assert (answer.status, answer.headers["x-should-retry"], error in answer.body.decode()) == (429, "false", True), answer.body
    assert int(answer.headers["Retry-After"]) > 0


def test_a_refusal_is_not_stored_under_its_idempotency_key(spent: Client) -> None:
    for prompt in ("hello", "something else"):  # the second one would be a conflict
        answer = spent.post("/api/v1/prompt", {"prompt": prompt}, headers={"Idempotency-Key": "mine"})
        assert code(answer) == (429, "budget_exceeded")


def test_each_ceiling_of_a_narrow_key_is_refused(place: Place, tmp_path: Path) -> None:
    client, go = place.client("narrow"), tmp_path / "go"
    assert refused_right(client.prompt("claude", "hello")) == "backends"
    assert refused_right(client.prompt("codex", "hello", sandbox_mode="workspace")) == "max_sandbox_mode"
    assert refused_right(client.prompt("codex", "hello", workdir=str(place.folder / "other"))) == "workdirs"

    held = do(["say", "begun"], ["wait_for", str(go)])
    with client.prompt_stream("codex", held) as one, client.prompt_stream("codex", held) as other:
        for stream in (one, other):
            next(stream.lines())
        assert {code(client.prompt("codex", "hello")) for _ in range(ASKS)} == {(429, "rate_limit_exceeded")}
        go.touch()
        for stream in (one, other):
            end = list(stream.lines())[-1].json
            assert (end["type"], end["content"]["cost_usd"], end["content"]["cost_estimated"]) == ("done", RUN_USD, True)

    answers = [client.prompt("codex", "hello", workdir=str(place.folder / "mine")) for _ in range(3)]
    assert [code(answer) for answer in answers] == [(200, None), (200, None), (429, "budget_exceeded")]
    assert (answers[0].json["cost_usd"], answers[0].json["cost_estimated"]) == (RUN_USD, True)
    used = place.used("narrow")
    assert (used["runs"], used["cost_usd"], used["cost_estimated"]) == (4, 1, True)


def test_the_slot_of_a_worker_that_is_killed_comes_back(place: Place) -> None:
    client = place.client("impatient")
    with client.prompt_stream("claude", do(["pid"], ["hang"])) as stream:
        cli = int(next(event for line in stream.lines() if (event := line.json)["type"] == "message")["content"])
        (worker,) = (pid for pid in place.server.workers() if cli in descendants(pid))
        assert code(client.prompt("claude", "hello")) == (429, "rate_limit_exceeded")
        os.kill(worker, signal.SIGKILL)

        def is_served() -> bool:
            try:
                return client.prompt("claude", "hello").status == 200
            except OSError:  # the worker that was killed had accepted it
                return False

        assert eventually(is_served)
    assert eventually(lambda: len(place.server.workers()) == 2)
