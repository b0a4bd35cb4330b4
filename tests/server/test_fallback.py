"""Chains of backends on the scripted CLI: who answers, who is never asked, and what callers are told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.client import Answer, Client
from tests.parts.clis import FakeCli, do
from tests.parts.command import Command
from tests.parts.processes import alive, eventually
from tests.parts.server import Server

KEEPALIVE_S = 0.3
FAILURES = {
    "rate_limited": ["fail", "This request would exceed your account's rate limit", 429],
    "overloaded": ["fail", "Overloaded", 529],
    "not_logged_in": ["fail", "Failed to authenticate. API Error: 401", 401],
}
ANSWER = ["say", "an answer"]
FIRST, SECOND, THIRD = "claude", "work", "spare"


def config(cli: FakeCli, **server: Any) -> dict[str, Any]:
    """`claude`, and two accounts of it. `broken` cannot be started; `limited` answers for nobody."""

    def env(account: str) -> dict[str, str]:
        return {**cli.backend()["env"], "FAKE_CLI_ACCOUNT": account, "CLAUDE_CONFIG_DIR": f"{cli.folder}-{account}"}

    backends = {
        FIRST: {**cli.backend("--stays"), "env": env(FIRST), "fallback": [SECOND, THIRD], "warm": {"max": 0}},
        SECOND: {"like": FIRST, "env": env(SECOND), "model": "work-model", "aliases": {"fast": "work-fast"}},
        THIRD: {"like": FIRST, "env": env(THIRD)},
        "broken": {"command": "/nowhere/cli", "custom": {}, "fallback": [SECOND]},
    }
    return {"default_backend": FIRST, "backends": backends, "server": {"keepalive_secs": KEEPALIVE_S, "metrics_enabled": True, **server}}


@pytest.fixture(scope="module")
def chained(scripted_cli: FakeCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("chained"), config(scripted_cli))
    yield one
    print(one.log()[-6000:])
    one.stop()


@pytest.fixture
def client(chained: Server, fake_cli: FakeCli) -> Iterator[Client]:
    yield chained.client
    assert eventually(lambda: not chained.runs()), "a process was left behind"


def accounts(cli: FakeCli, about: str) -> int:
    """How many processes were given the prompt."""
    return sum(about in report["prompt"] for report in cli.reports())


def ask(client: Client, surface: str, prompt: str, *, model: str = FIRST, stream: bool = False) -> Answer:
    messages = [{"role": "user", "content": prompt}]
    match surface:
        case "native":
            accept = {"Accept": "text/event-stream"} if stream else {}
            return client.post("/api/v1/prompt", {"backend": model, "prompt": prompt}, headers=accept)
        case "chat":
            return client.post("/openai/v1/chat/completions", {"model": model, "messages": messages, "stream": stream})
        case "responses":
            return client.post("/openai/v1/responses", {"model": model, "input": prompt, "stream": stream})
    return client.post("/anthropic/v1/messages", {"model": model, "messages": messages, "max_tokens": 99, "stream": stream})


SURFACES = ("native", "chat", "responses", "messages")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("reason", FAILURES)
def test_the_next_backend_answers_and_the_header_says_so(
    client: Client, fake_cli: FakeCli, reason: str, surface: str, stream: bool
) -> None:
    answer = ask(client, surface, do(["at", FIRST, *FAILURES[reason]], ANSWER), stream=stream)
    assert (answer.status, answer.headers["X-Clinvk-Fallback"]) == (200, f"{FIRST}={reason}")
    assert b"an answer" in answer.body
    if surface == "native":
        assert f'"backend":"{SECOND}"'.encode() in answer.body
    else:
        assert answer.headers["X-Clinvk-Backend"] == SECOND
    assert accounts(fake_cli, "an answer") == 2


@pytest.mark.parametrize("surface", SURFACES)
def test_a_backend_that_cannot_be_started_is_passed_over(client: Client, fake_cli: FakeCli, surface: str) -> None:
    answer = ask(client, surface, do(ANSWER), model="broken")
    assert (answer.status, answer.headers["X-Clinvk-Fallback"]) == (200, "broken=unavailable")
    assert accounts(fake_cli, "an answer") == 1


def test_the_chain_is_followed_to_the_first_that_answers(client: Client) -> None:
    prompt = do(["at", FIRST, *FAILURES["rate_limited"]], ["at", SECOND, *FAILURES["overloaded"]], ANSWER)
    answer = client.prompt(FIRST, prompt)
    assert answer.headers["X-Clinvk-Fallback"] == f"{FIRST}=rate_limited,{SECOND}=overloaded"
    told = [{"backend": FIRST, "reason": "rate_limited"}, {"backend": SECOND, "reason": "overloaded"}]
    assert (answer.json["backend"], answer.json["output"], answer.json["fallback"]) == (THIRD, "an answer", told)


def test_the_command_says_who_answers_and_why(chained: Server, client: Client) -> None:
    prompt = do(["at", FIRST, *FAILURES["rate_limited"]], ["at", SECOND, *FAILURES["overloaded"]], ANSWER)
    done = Command(chained.home.parent, chained.mark, {})("prompt", "--server", chained.url, "-b", FIRST, "-", stdin=prompt)
    assert (done.returncode, done.stdout) == (0, "an answer\n")
    assert f"{FIRST} was rate limited, {SECOND} was overloaded; {THIRD} answers" in done.stderr


def test_the_last_of_the_chain_tells_its_own_failure(client: Client, fake_cli: FakeCli) -> None:
    answer = ask(client, "chat", do(FAILURES["overloaded"]))
    assert (answer.status, answer.json["error"]["code"]) == (503, "backend_overloaded")
    assert answer.headers["X-Clinvk-Fallback"] == f"{FIRST}=overloaded,{SECOND}=overloaded"
    assert len(fake_cli.reports()) == 3


@pytest.mark.parametrize("begun", [["say", "a word"], ["tool", "ls", "x"]], ids=["word", "tool"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_nobody_answers_after_the_first_word_or_tool_call(client: Client, fake_cli: FakeCli, begun: list[Any], stream: bool) -> None:
    answer = ask(client, "chat", do(begun, FAILURES["overloaded"]), stream=stream)
    assert "X-Clinvk-Fallback" not in answer.headers
    assert b"verloaded" in answer.body
    assert len(fake_cli.reports()) == 1


@pytest.mark.parametrize("failure", [["fail", "prompt is too long", 400], ["exit", 3], ["fail", "strange", 500]])
def test_other_failures_are_the_backend_s_own(client: Client, fake_cli: FakeCli, failure: list[Any]) -> None:
    answer = client.prompt(FIRST, do(failure))
    assert (answer.json["backend"], answer.json["fallback"], len(fake_cli.reports())) == (FIRST, [], 1)


def test_a_cli_that_tries_again_by_itself_is_not_waited_for(client: Client, fake_cli: FakeCli) -> None:
    answer = client.prompt(FIRST, do(["at", FIRST, "retry", 529, "overloaded"], ["at", FIRST, "hang"], ANSWER))
    assert answer.headers["X-Clinvk-Fallback"] == f"{FIRST}=overloaded"
    assert answer.json["output"] == "an answer"
    assert sum(alive(report["pid"]) for report in fake_cli.reports()) == 0


def test_a_silent_backend_is_kept_after_four_keep_alive_intervals(client: Client, fake_cli: FakeCli) -> None:
    begun = time.monotonic()
    prompt = do(["at", FIRST, "wait", 6 * KEEPALIVE_S], FAILURES["overloaded"])
    with client.prompt_stream(FIRST, prompt, sse=True) as stream:
        head_s = time.monotonic() - begun
        last = list(stream.events())[-1]
    assert head_s < 6 * KEEPALIVE_S, "the head waited for the failure"
    assert (last.name, last.json["content"]["code"]) == ("error", "backend_overloaded")
    assert len(fake_cli.reports()) == 1


def test_a_client_that_leaves_while_the_head_waits_ends_the_run(client: Client, chained: Server, fake_cli: FakeCli) -> None:
    with client.send("POST", "/openai/v1/chat/completions", {"model": FIRST, "messages": [{"role": "user", "content": do(["hang"])}]}):
        fake_cli.wait_for(1)
    assert eventually(lambda: not chained.runs())
    assert len(fake_cli.reports()) == 1


@pytest.mark.parametrize(
    ("fields", "backend", "models"),
    [
        ({}, SECOND, ["work-model"]),
        ({"model": "fast"}, SECOND, ["haiku", "work-fast"]),
        ({"model": "best"}, SECOND, ["opus", "opus"]),
        ({"model": "opus"}, FIRST, ["opus"]),
    ],
    ids=["default", "tier of its own", "inherited tier", "exact"],
)
def test_the_next_backend_has_its_own_model_of_the_tier_and_none_answers_for_an_exact_one(
    client: Client, fake_cli: FakeCli, fields: dict[str, str], backend: str, models: list[str]
) -> None:
    answer = client.prompt(FIRST, do(["at", FIRST, *FAILURES["overloaded"]], ANSWER), **fields)
    told = [arg.removeprefix("--model=") for report in fake_cli.reports() for arg in report["argv"] if arg.startswith("--model=")]
    assert (answer.json["backend"], sorted(told)) == (backend, models)


@pytest.mark.parametrize(("model", "backend"), [(f"{FIRST}/opus", FIRST), (f"{FIRST}/fast", SECOND), ("sonnet", SECOND)])
def test_only_backend_and_model_together_are_exact(client: Client, model: str, backend: str) -> None:
    answer = ask(client, "chat", do(["at", FIRST, *FAILURES["overloaded"]], ANSWER), model=model)
    assert answer.headers.get("X-Clinvk-Fallback") == (f"{FIRST}=overloaded" if backend == SECOND else None)
    assert answer.status == (200 if backend == SECOND else 503)


def test_a_session_belongs_to_the_backend_that_answered_and_stays_with_it(client: Client, fake_cli: FakeCli) -> None:
    def transcripts() -> list[Path]:
        return list(fake_cli.folder.with_name(f"{fake_cli.folder.name}-{FIRST}").glob("projects/*/*.jsonl"))

    before = transcripts()
    first = client.prompt(FIRST, do(["at", FIRST, *FAILURES["overloaded"]], ANSWER)).json
    session = client.get(f"/api/v1/sessions/{first['session_id']}").json
    assert session["backend"] == SECOND
    path = f"/api/v1/sessions/{first['session_id']}/resume"
    later = client.post(path, {"prompt": do(["echo"])})
    assert (later.status, later.json["backend"], later.json["fallback"]) == (200, SECOND, [])
    failed = client.post(path, {"prompt": do(FAILURES["overloaded"])})
    assert failed.json["error"] == "Overloaded"
    assert len(fake_cli.reports()) == 4
    assert eventually(lambda: transcripts() == before), "the session of the first attempt is left"


def test_a_response_is_continued_on_the_backend_that_answered(client: Client, fake_cli: FakeCli) -> None:
    first = ask(client, "responses", do(["at", FIRST, *FAILURES["overloaded"]], ANSWER)).json
    again = {"model": SECOND, "input": do(["echo"]), "previous_response_id": first["id"]}
    later = client.post("/openai/v1/responses", again)
    assert (later.status, later.headers["X-Clinvk-Backend"]) == (200, SECOND), later.body
    assert any(arg.startswith("--resume=") for report in fake_cli.reports() for arg in report["argv"])


def test_a_background_run_remembers_it_and_so_does_the_answer_to_a_repeated_key(client: Client) -> None:
    prompt = do(["at", FIRST, *FAILURES["overloaded"]], ANSWER)
    told = [{"backend": FIRST, "reason": "overloaded"}]
    queued = client.post("/api/v1/prompt", {"backend": FIRST, "prompt": prompt, "background": True}).json
    run = client.get(f"/api/v1/runs/{queued['id']}?wait=30").json
    assert (run["status"], run["backend"], run["fallback"], run["result"]["fallback"]) == ("completed", SECOND, told, told)
    key = {"Idempotency-Key": "once"}
    first, again = (client.post("/api/v1/prompt", {"backend": FIRST, "prompt": prompt}, headers=key) for _ in range(2))
    assert first.headers["X-Clinvk-Fallback"] == again.headers["X-Clinvk-Fallback"] == f"{FIRST}=overloaded"
    assert again.headers["Idempotent-Replayed"] == "true"


def test_tasks_fall_back_and_targets_of_a_comparison_do_not(client: Client) -> None:
    prompt = do(["at", FIRST, *FAILURES["overloaded"]], ANSWER)
    accept = {"Accept": "application/x-ndjson"}
    sent = client.post("/api/v1/parallel", {"tasks": [{"backend": FIRST, "prompt": prompt}] * 2}, headers=accept)
    tasks = [json.loads(line) for line in sent.body.splitlines()]
    assert {event["backend"] for event in tasks if event["type"] == "message"} == {SECOND}
    results = tasks[-1]["content"]["results"]
    assert [(one["status"], one["backend"], one["fallback"][0]["reason"]) for one in results] == [("completed", SECOND, "overloaded")] * 2
    compared = client.post("/api/v1/compare", {"prompt": prompt, "backends": [FIRST, SECOND]}).json["results"]
    assert [(one["backend"], one["status"]) for one in compared] == [(FIRST, "failed"), (SECOND, "completed")]


def test_metrics_and_the_log_have_every_attempt(client: Client, chained: Server) -> None:
    client.prompt(FIRST, do(["at", FIRST, *FAILURES["not_logged_in"]], ANSWER))
    metrics = client.get("/metrics").body.decode()
    assert f'clinvk_fallbacks_total{{from="{FIRST}",reason="not_logged_in",to="{SECOND}"}}' in metrics
    assert f'clinvk_runs_total{{backend="{FIRST}",outcome="not_logged_in"}}' in metrics
    assert f'"fallback": "{FIRST}=not_logged_in"' in chained.log()


# -- plans --


@pytest.fixture
def limited(server: ServerFactory, fake_cli: FakeCli) -> Server:
    """A server of the test's own: what a backend says of its plan is remembered."""
    return server(config(fake_cli))


def limits(account: str, in_s: int, *, status: str = "rejected", used: float = 1) -> list[Any]:
    window = {"utilization": used, "resetsAt": int(time.time()) + in_s, "status": status}
    info = {"status": status, "resetsAt": window["resetsAt"], "rateLimitType": "five_hour", "unifiedWindows": {"five_hour": window}}
    return ["at", account, "limits", info]


def plans(server: Server) -> dict[str, Any]:
    return {plan["backend"]: plan["windows"] for plan in server.client.get("/api/v1/usage/plans").json["plans"]}


def test_a_backend_whose_plan_is_used_up_is_not_asked_until_its_reset(limited: Server, fake_cli: FakeCli) -> None:
    refusal = [limits(FIRST, 3), ["at", FIRST, *FAILURES["rate_limited"]]]
    assert limited.client.prompt(FIRST, do(*refusal, ANSWER)).json["backend"] == SECOND
    assert [window["status"] for window in plans(limited)[FIRST]] == ["rejected"]
    fake_cli.forget()
    skipped = limited.client.prompt(FIRST, do(ANSWER))
    assert (skipped.json["backend"], skipped.headers["X-Clinvk-Fallback"]) == (SECOND, f"{FIRST}=rate_limited")
    assert len(fake_cli.reports()) == 1
    assert eventually(lambda: not plans(limited)), "the window is over"
    assert limited.client.prompt(FIRST, do(ANSWER)).json["backend"] == FIRST


def test_where_all_are_limited_the_answer_says_when_the_first_is_not(limited: Server, fake_cli: FakeCli) -> None:
    told = do(limits(FIRST, 500), limits(SECOND, 90), limits(THIRD, 200), FAILURES["rate_limited"])
    first = ask(limited.client, "chat", told)
    assert (first.status, first.json["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 80 <= int(first.headers["Retry-After"]) <= 90
    assert len(fake_cli.reports()) == 3
    for surface in SURFACES:
        again = ask(limited.client, surface, told)
        assert (again.status, again.headers["x-should-retry"]) == (429, "false")
        assert 80 <= int(again.headers["Retry-After"]) <= 90
    assert len(fake_cli.reports()) == 3, "nobody was asked again"


@pytest.mark.parametrize("surface", SURFACES)
def test_a_rate_limited_backend_without_a_chain_says_when_it_may_be_asked_again(limited: Server, surface: str) -> None:
    answer = ask(limited.client, surface, do(limits(THIRD, 300), FAILURES["rate_limited"]), model=THIRD)
    assert 290 <= int(answer.headers["Retry-After"]) <= 300
    assert answer.status == (200 if surface == "native" else 429)


def test_plans_are_metrics_and_every_process_on_the_database_knows_them(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    settings = {**config(fake_cli), "session": {"database_url": f"sqlite:///{tmp_path}/shared.db"}}
    limited, other = server(settings), server(settings)
    limited.client.prompt(FIRST, do(limits(FIRST, 4_000, status="allowed", used=0.42), ANSWER))
    (window,) = plans(limited)[FIRST]
    assert (window["name"], window["used"], window["status"]) == ("five_hour", 0.42, "allowed")
    metrics = limited.client.get("/metrics").body.decode()
    assert f'clinvk_plan_window_used_ratio{{backend="{FIRST}",window="five_hour"}} 0.42' in metrics
    assert f'clinvk_plan_window_resets_at_seconds{{backend="{FIRST}",window="five_hour"}}' in metrics
    assert eventually(lambda: plans(other).get(FIRST) == [window])


def test_a_report_in_an_unknown_form_is_ignored_and_logged_once(limited: Server) -> None:
    for _ in range(3):
        answer = limited.client.prompt(FIRST, do(["limits", {"tomorrow": True}], ANSWER))
        assert (answer.json["backend"], answer.json["output"]) == (FIRST, "an answer")
    assert plans(limited) == {}
    assert limited.log().count("in a form that is not known") == 1
