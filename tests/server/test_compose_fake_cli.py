"""`/api/v1/parallel`, `/chain` and `/compare` over HTTP, on the scripted CLI."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.client import Arrival
from tests.parts.clis import FakeCli, do
from tests.parts.native import of_type, text
from tests.parts.processes import PATIENCE_S, alive, eventually
from tests.parts.server import Server

SSE = {"Accept": "text/event-stream"}
STUBBORN = do(["spawn", True, True], ["say", "hello"], ["hang"])


def tasks(*prompts: str) -> list[dict[str, Any]]:
    return [{"prompt": prompt} for prompt in prompts]


def ask(server: Server, what: str, **body: Any) -> Any:
    answer = server.client.post(f"/api/v1/{what}", body)
    assert answer.status == 200, answer.body
    return answer.json


def merged(arrivals: list[Arrival], member: str = "task") -> tuple[dict[int, list[dict[str, Any]]], dict[str, Any]]:
    """The events of every run, by its index, and the result, of a stream that has come to its end."""
    found = [arrival.json for arrival in arrivals]
    assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))
    assert [event["type"] for event in found].count("result") == 1
    result = found.pop()
    assert result["type"] == "result"
    runs: dict[int, list[dict[str, Any]]] = {}
    for event in found:
        runs.setdefault(event[member], []).append(event)
    for told in runs.values():
        assert [event["type"] in ("done", "error") for event in told] == [False] * (len(told) - 1) + [True]
    return runs, result["content"]


def test_eight_tasks_with_max_parallel_4_go_four_at_a_time(fake_server: Server, fake_cli: FakeCli) -> None:
    """Each hangs until it is killed, so each kill makes the next start possible. A child shows that its parent has spoken."""
    prompts = [do(["say", f"task {n}"], ["spawn"], ["hang"]) for n in range(8)]

    def going() -> list[int]:
        return [report["pid"] for report in fake_cli.reports() if alive(report["pid"])]

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, fake_server, "parallel", tasks=tasks(*prompts), max_parallel=4)
        for killed in range(8):
            begun = min(4 + killed, 8)
            fake_cli.wait_for(begun)
            fake_cli.children(begun)
            assert eventually(lambda killed=killed: len(going()) == min(4, 8 - killed))
            assert len(fake_cli.reports()) == begun
            os.kill(going()[0], signal.SIGKILL)
        answer = asked.result(30)
    assert (answer["total_tasks"], answer["completed"], answer["failed"]) == (8, 0, 8)
    assert [result["output"] for result in answer["results"]] == [f"task {n}" for n in range(8)]


def test_the_answer_of_parallel_counts_and_keeps_the_order(fake_server: Server) -> None:
    answer = ask(
        fake_server,
        "parallel",
        tasks=[
            {"prompt": do(["wait", 0.2], ["say", "é漢字🙂"]), "name": "slow"},
            {"prompt": do(["fail", "no luck"])},
            {"prompt": do(["say", "b"]), "backend": "codex"},
        ],
    )
    first, second, third = answer["results"]
    assert (answer["total_tasks"], answer["completed"], answer["failed"]) == (3, 1, 2)
    assert (first["task"], first["name"], first["status"], first["output"], first["error"]) == (0, "slow", "completed", "é漢字🙂", None)
    assert (first["token_usage"]["input_tokens"], first["cost_usd"]) == (16, 0.25)
    assert (second["status"], second["exit_code"], second["error"], second["error_code"]) == ("failed", 1, "no luck", "backend_error")
    assert (third["status"], third["exit_code"], third["error_code"]) == ("failed", None, "backend_unavailable")
    assert answer["meta"]["request_id"]


def test_the_configuration_says_how_many_go_at_a_time_and_whether_one_failure_ends_all(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(
        {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "parallel": {"max_workers": 1, "fail_fast": True}}
    )
    answer = ask(one, "parallel", tasks=tasks(do(["fail", "no"]), do(["say", "b"])))
    assert [result["status"] for result in answer["results"]] == ["failed", "skipped"]
    assert answer["skipped"] == 1
    assert len(fake_cli.reports()) == 1
    assert ask(one, "parallel", tasks=tasks(do(["fail", "no"]), do(["say", "b"])), fail_fast=False)["completed"] == 1


def test_fail_fast_ends_the_rest(fake_server: Server, fake_cli: FakeCli) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, fake_server, "parallel", tasks=tasks(*[STUBBORN] * 5), max_parallel=4, fail_fast=True)
        children = fake_cli.children(4)
        pids = [report["pid"] for report in fake_cli.reports()]
        os.kill(pids[0], signal.SIGKILL)
        answer = asked.result(PATIENCE_S)
    assert sorted(result["status"] for result in answer["results"]) == ["cancelled", "cancelled", "cancelled", "failed", "skipped"]
    assert (answer["failed"], answer["cancelled"], answer["skipped"]) == (1, 3, 1)
    assert all("failed and fail_fast is set" in result["error"] for result in answer["results"] if result["status"] != "failed")
    assert len(fake_cli.reports()) == 4
    assert eventually(lambda: not [pid for pid in (*pids, *children) if alive(pid)])


@pytest.mark.parametrize("headers", [{}, SSE], ids=["whole", "stream"])
@pytest.mark.parametrize("what", ["parallel", "chain", "compare"])
def test_a_client_that_leaves_takes_everything_along(fake_server: Server, fake_cli: FakeCli, what: str, headers: dict[str, str]) -> None:
    body: dict[str, Any] = {
        "parallel": {"tasks": tasks(*[STUBBORN] * 5), "max_parallel": 3},
        "chain": {"steps": tasks(STUBBORN, STUBBORN)},
        "compare": {"prompt": STUBBORN, "backends": ["claude"] * 3},
    }[what]
    count = 1 if what == "chain" else 3
    with fake_server.client.send("POST", f"/api/v1/{what}", body, headers):
        children = fake_cli.children(count)
        tree = [*children, *(report["pid"] for report in fake_cli.wait_for(count))]
    assert eventually(lambda: not [pid for pid in tree if alive(pid)])
    assert eventually(lambda: not fake_server.runs())
    assert fake_server.client.prompt("claude", do(["say", "next"])).json["output"] == "next"
    assert len(fake_cli.reports()) == count + 1


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
def test_the_events_of_all_runs_come_with_their_index_and_one_result_at_the_end(fake_server: Server, accept: str) -> None:
    prompts = [do(["tokens", 30, 0.005], ["say", f" of {n} é漢字🙂\u2028"]) for n in range(3)]
    body = {"tasks": [*tasks(*prompts), {"prompt": do(["fail", "no luck"])}], "max_parallel": 4}
    with fake_server.client.open("POST", "/api/v1/parallel", body, {"Accept": accept}) as stream:
        assert stream.headers["content-type"].split(";")[0] == accept
        arrivals = list(stream.events() if "event" in accept else stream.lines())
    runs, result = merged(arrivals)
    tokens = "".join(f"{' ' if i else ''}tok{i}" for i in range(30))
    assert [text(runs[n]) for n in range(3)] == [f"{tokens} of {n} é漢字🙂\u2028" for n in range(3)]
    assert runs[3][-1]["content"]["message"] == "no luck"
    assert [part["output"] for part in result["results"][:3]] == [text(runs[n]) for n in range(3)]
    assert (result["total_tasks"], result["completed"], result["failed"]) == (4, 3, 1)
    order = [arrival.json["task"] for arrival in arrivals[:-1]]
    assert len(set(order[:60])) > 1, "interleaved"
    if "event" in accept:
        assert [arrival.name for arrival in arrivals] == [arrival.json["type"] for arrival in arrivals]
        assert arrivals[-1].id == str(len(arrivals))


def test_a_chain_passes_its_text_on(fake_server: Server, fake_cli: FakeCli) -> None:
    steps = [
        {"name": "first", "prompt": do(["say", "one {{ not.me ..}} é🙂"])},
        {"prompt": "two {{previous}}"},
        {"prompt": "three {{previous}} {{steps.first.output}}"},
    ]
    answer = ask(fake_server, "chain", steps=steps)
    said = "one {{ not.me ..}} é🙂"
    assert [part["output"] for part in answer["results"]] == [said, f"You said: two {said}", f"You said: three You said: two {said} {said}"]
    assert (answer["total_steps"], answer["completed_steps"], answer["failed_step"]) == (3, 3, None)
    assert [(part["step"], part["name"]) for part in answer["results"]] == [(0, "first"), (1, None), (2, None)]


def test_a_chain_says_which_step_failed(fake_server: Server, fake_cli: FakeCli) -> None:
    steps = tasks(do(["say", "a"]), do(["fail", "no luck"]), "c {{previous}}")
    answer = ask(fake_server, "chain", steps=steps)
    assert (answer["completed_steps"], answer["failed_step"], answer["skipped"]) == (1, 1, 1)
    assert len(fake_cli.reports()) == 2


def test_a_chain_streams_its_steps(fake_server: Server) -> None:
    with fake_server.client.open("POST", "/api/v1/chain", {"steps": tasks(do(["say", "a"]), "b {{previous}}")}, SSE) as stream:
        runs, result = merged(list(stream.events()), "step")
    assert [text(runs[n]) for n in range(2)] == ["a", "You said: b a"]
    assert result["completed_steps"] == 2


@pytest.mark.parametrize("sequential", [False, True])
def test_compare_tells_time_tokens_and_cost_of_every_target(fake_server: Server, fake_cli: FakeCli, sequential: bool) -> None:
    targets = [{"backend": "claude", "model": "model-a"}, {"model": "model-b"}]
    answer = ask(fake_server, "compare", prompt=do(["say", "x"]), targets=targets, sequential=sequential)
    assert answer["backends"] == ["claude", "claude"]
    assert answer["prompt"] == do(["say", "x"])
    for part in answer["results"]:
        assert part["duration_ms"] > 0
        assert part["token_usage"]["output_tokens"] == 7
        assert part["cost_usd"] == 0.25
    asked = [arg for report in fake_cli.reports() for arg in report["argv"] if arg.startswith("--model=")]
    assert sorted(asked) == ["--model=model-a", "--model=model-b"]


def test_all_three_keep_no_session(fake_server: Server, fake_cli: FakeCli) -> None:
    say = do(["say", "x"])
    ask(fake_server, "parallel", tasks=tasks(say))
    ask(fake_server, "chain", steps=tasks(say))
    ask(fake_server, "compare", prompt=say, backends=["claude"])
    assert [("--no-session-persistence" in report["argv"]) for report in fake_cli.reports()] == [True] * 3


def test_dry_run_starts_nothing_and_tells_every_argv(fake_server: Server, fake_cli: FakeCli) -> None:
    for what, body in (
        ("parallel", {"tasks": [{"prompt": "a", "model": "m"}]}),
        ("chain", {"steps": [{"prompt": "a", "model": "m"}, {"prompt": "{{previous}}", "model": "m"}]}),
        ("compare", {"prompt": "a", "targets": [{"model": "m"}]}),
    ):
        answer = ask(fake_server, what, dry_run=True, **body)
        assert answer["dry_run"] is True
        assert all("--model=m" in part["argv"] for part in answer["results"])
    assert fake_cli.reports() == []


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("parallel", {}, None),
        ("parallel", {"tasks": []}, "tasks"),
        ("parallel", {"tasks": [{"prompt": "a"}] * 1001}, "tasks"),
        ("parallel", {"tasks": [{"prompt": "a"}], "max_parallel": 0}, "max_parallel"),
        ("parallel", {"tasks": [{"prompt": "a"}, {"prompt": "b", "colour": 1}]}, "tasks[1].colour"),
        ("parallel", {"tasks": [{"prompt": "a"}, {"prompt": "b", "backend": "nobody"}]}, "tasks[1].backend"),
        ("parallel", {"tasks": [{"prompt": "a"}, {"prompt": "b", "workdir": "/etc"}]}, "tasks[1].workdir"),
        ("parallel", {"tasks": [{"prompt": "a", "ephemeral": False}]}, "tasks[0].ephemeral"),
        ("chain", {"steps": [{"prompt": "a {{previous}}"}]}, "steps[0].prompt"),
        ("chain", {"steps": [{"prompt": "a"}, {"prompt": "{{steps.x.output}}"}]}, "steps[1].prompt"),
        ("chain", {"steps": [{"prompt": "a", "name": "{x}"}]}, "steps[0].name"),
        ("compare", {"prompt": "a"}, "backends"),
        ("compare", {"prompt": "a", "backends": ["claude"], "targets": [{"backend": "claude"}]}, "backends"),
        ("compare", {"prompt": "a", "backends": ["claude", "nobody"]}, "backends[1].backend"),
        ("compare", {"prompt": " ", "backends": ["claude"]}, "prompt"),
        ("compare", {"prompt": "a", "backends": ["claude"], "workdir": "/etc"}, "workdir"),
        ("compare", {"prompt": "a", "targets": [{"backend": "claude"}, {"model": "--bad"}]}, "targets[1].model"),
        ("parallel", {"tasks": [{"prompt": "a", "model": "--bad"}]}, "tasks[0].model"),
        ("compare", {"prompt": "a", "backends": ["claude"], "model": "m"}, "model"),
    ],
)
@pytest.mark.parametrize("headers", [{}, SSE], ids=["whole", "stream"])
def test_what_cannot_be_run_is_refused_before_anything_starts(
    fake_server: Server, fake_cli: FakeCli, what: str, body: dict[str, Any], field: str | None, headers: dict[str, str]
) -> None:
    answer = fake_server.client.post(f"/api/v1/{what}", body, headers=headers)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid_request")
    assert field is None or answer.json["error"]["details"]["field"] == field
    assert fake_cli.reports() == []


def test_a_chain_that_cannot_reach_its_end_is_not_begun(fake_server: Server, fake_cli: FakeCli) -> None:
    answer = fake_server.client.post("/api/v1/chain", {"steps": [{"prompt": "a"}, {"prompt": "b", "backend": "codex"}]})
    assert (answer.status, answer.json["error"]["code"]) == (503, "backend_unavailable")
    assert fake_cli.reports() == []


def test_the_server_s_stop_ends_the_runs_with_an_honest_error(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"shutdown_grace_secs": 1}})
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, one, "parallel", tasks=tasks(*[STUBBORN] * 3), max_parallel=2)
        fake_cli.children(2)
        one.signal(signal.SIGTERM)
        answer = asked.result(30)
    assert [part["status"] for part in answer["results"]] == ["cancelled", "cancelled", "skipped"]
    assert "the server is stopping" in answer["results"][0]["error"]
    assert one.wait() == 0


def test_errors_are_terminal_events_too(fake_server: Server) -> None:
    body = {"tasks": [{"prompt": "a", "backend": "codex"}, {"prompt": do(["say", "b"])}]}
    with fake_server.client.open("POST", "/api/v1/parallel", body, SSE) as stream:
        runs, _ = merged(list(stream.events()))
    (error,) = of_type(runs[0], "error")
    assert error["content"]["code"] == "backend_unavailable"
    assert runs[1][-1]["type"] == "done"
