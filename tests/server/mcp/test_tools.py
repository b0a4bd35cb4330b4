"""What the tools do and refuse, with the scripted CLI."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ServerFactory
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.house import House
from tests.parts.processes import alive, eventually
from tests.parts.rpc import HANDSHAKE, STATELESS, STREAM, Speaker, error_code, failure, told

GONE_S = 3.0
FAILED = {"output": "", "session_id": None, "backend": None, "run_id": None}
RUNS_CLI = {
    "prompt": {"backend": "demo", "prompt": "hi"},
    "submit": {"backend": "demo", "prompt": "hi"},
    "compare": {"backends": ["demo"], "prompt": "hi"},
    "parallel": {"tasks": [{"backend": "demo", "prompt": "hi"}]},
}


def runs(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/runs").json["runs"]
    return found


def test_a_conversation_goes_on_by_its_session(client: Speaker) -> None:
    first = told(client.call("prompt", {"backend": "claude", "prompt": "one"}))
    second = told(client.call("prompt", {"prompt": "two", "session_id": first["session_id"]}))
    assert (second["session_id"], second["backend"]) == (first["session_id"], "claude")
    turns = client.client.get(f"/api/v1/sessions/{first['session_id']}/turns").json["turns"]
    assert [turn["prompt"] for turn in turns] == ["one", "two"]


def test_a_model_that_sees_text_alone_gets_the_session_too(client: Speaker) -> None:
    result = client.call("prompt", {"backend": "demo", "prompt": "hi"})
    assert result["content"][1]["text"] == f"session_id: {told(result)['session_id']}"


def test_several_agents_are_asked_the_same(client: Speaker) -> None:
    result = client.call("compare", {"backends": ["demo", "echo"], "prompt": "hi"})
    demo, echo = told(result)["results"]
    assert (demo["backend"], echo["backend"], echo["output"]) == ("demo", "echo", "hi")
    assert set(demo) == {"output", "session_id", "backend", "error", "run_id"}
    assert result["isError"] is False
    assert "## 2. echo\n\nhi" in result["content"][0]["text"]


def test_several_tasks_of_which_one_fails_are_no_error(client: Speaker) -> None:
    tasks = [{"backend": "echo", "prompt": "one"}, {"backend": "codex", "prompt": "two"}]
    result = client.call("parallel", {"tasks": tasks})
    good, bad = told(result)["results"]
    assert (good["output"], good["error"], bad["output"]) == ("one", None, "")
    assert "npm install" in bad["error"]
    assert result["isError"] is False
    assert client.call("parallel", {"tasks": tasks[1:]})["isError"] is True


def test_several_runs_have_progress_under_their_names(client: Speaker) -> None:
    tasks = [{"backend": "claude", "prompt": do(["tool", "ls", "ok"], ["say", "done"])}, {"backend": "echo", "prompt": "x"}]
    with client.open("parallel", {"tasks": tasks}) as stream:
        *notes, answer = client.messages(stream)
    assert {note["params"]["message"].partition(":")[0] for note in notes} <= {"claude", "echo"}
    assert len(notes) >= 1
    assert len(told(client.result("tools/call", answer))["results"]) == 2


def test_the_agents_are_listed_in_words(client: Speaker) -> None:
    text = client.call("list_backends")["content"][0]["text"]
    assert "- demo: the default; available" in text
    assert "- codex: not available: " in text


def test_a_run_of_the_cli_that_fails_is_a_result(client: Speaker) -> None:
    result = client.call("prompt", {"backend": "claude", "prompt": do(["say", "so far"], ["fail", "it broke", 500])})
    assert (told(result)["output"], told(result)["backend"]) == ("so far", "claude")
    assert "it broke" in failure(result)


MENDABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown backend": ("prompt", {"backend": "nosuch", "prompt": "hi"}, "unknown backend 'nosuch'; configured: "),
    "a backend that is not there": ("prompt", {"backend": "codex", "prompt": "hi"}, "Available: "),
    "an empty prompt": ("prompt", {"prompt": " "}, "prompt is empty"),
    "no prompt": ("prompt", {}, "prompt: is required"),
    "an unknown field": ("prompt", {"prompt": "hi", "isolation": "worktree"}, "isolation: unknown field"),
    "a misspelled field": ("prompt", {"prompt": "hi", "bakend": "demo"}, "did you mean 'backend'?"),
    "a field of the native API": ("prompt", {"prompt": "hi", "background": True}, "background: unknown field"),
    "a mode that the tools do not have": ("prompt", {"prompt": "hi", "approval_mode": "always"}, "approval_mode: must be one of"),
    "a wrong type": ("prompt", {"prompt": "hi", "timeout_secs": "5"}, "timeout_secs: not a valid number"),
    "a folder that is not allowed": ("prompt", {"prompt": "hi", "workdir": "/etc"}, "workdir '/etc'"),
    "an unknown session": ("prompt", {"prompt": "hi", "session_id": "0" * 8}, "no session"),
    "no backends": ("compare", {"prompt": "hi", "backends": []}, "backends: "),
    "an unknown backend among several": ("compare", {"prompt": "hi", "backends": ["demo", "x"]}, "backends[1]: unknown backend 'x'"),
    "a task without a prompt": ("parallel", {"tasks": [{}]}, "tasks[0].prompt: is required"),
    "an unknown run": ("wait", {"run_id": "run_00"}, "there is no run 'run_00'"),
    "what is no run": ("cancel", {"run_id": "5"}, "run_id: not the id of a run"),
    "a wait without an end": ("wait", {"run_id": "run_00", "timeout_secs": 1e9}, "timeout_secs: must be"),
}


@pytest.mark.parametrize("case", MENDABLE)
@pytest.mark.parametrize("accept", ["application/json", STREAM], ids=["JSON", "stream"])
def test_what_a_model_can_mend_is_a_result_in_words(client: Speaker, case: str, accept: str) -> None:
    name, arguments, words = MENDABLE[case]
    answer = client.post(client.message("tools/call", {"name": name, "arguments": arguments}), accept)
    body = answer.body.partition(b"data: ")[2] or answer.body
    result = client.result("tools/call", json.loads(body))
    assert words in failure(result)
    assert told(result) == FAILED | {"error": failure(result)}


def test_a_session_that_is_busy_is_told(client: Speaker) -> None:
    with client.open("prompt", {"backend": "claude", "prompt": do(["say", "on"], ["hang"])}) as stream:
        next(client.messages(stream))
        (run,) = runs(client.client)
        result = client.call("prompt", {"prompt": "hi", "session_id": run["session_id"]})
    assert "running" in failure(result)


def test_a_run_is_stopped_when_its_client_leaves(speaker: Speaker, house: House) -> None:
    house.cli.forget()
    with speaker.open("prompt", {"backend": "claude", "prompt": do(["say", "on"], ["spawn"], ["hang"])}) as stream:
        next(speaker.messages(stream))
        tree = [house.cli.pid(), *house.cli.children()]
    assert eventually(lambda: not any(map(alive, tree)), within_s=GONE_S)
    assert eventually(lambda: runs(speaker.client) == [] or runs(speaker.client)[0]["status"] != "running")


@pytest.mark.parametrize("revision", HANDSHAKE)
@pytest.mark.parametrize("id", [5, "5"], ids=["number", "text"])
def test_a_request_is_cancelled_by_a_message(house: House, revision: str, id: Any) -> None:
    house.cli.forget()
    speaker = Speaker(house.server.client, revision, {"Mcp-Session-Id": f"of the test {revision} {id!r}"})
    with speaker.open("prompt", {"backend": "claude", "prompt": do(["say", "on"], ["spawn"], ["hang"])}, id=id) as stream:
        messages = speaker.messages(stream)
        next(messages)
        tree = [house.cli.pid(), *house.cli.children()]
        other = Speaker(house.server.client, revision, {"Mcp-Session-Id": "another client's"})
        for wrong, params in ((speaker, {"requestId": str(id) if id == 5 else 5}), (other, {"requestId": id}), (speaker, {})):
            assert wrong.note("notifications/cancelled", params) == 202
        assert all(map(alive, tree))
        assert speaker.note("notifications/cancelled", {"requestId": id, "reason": "enough"}) == 202
        assert eventually(lambda: not any(map(alive, tree)), within_s=GONE_S)
        assert "cancelled" in failure(speaker.result("tools/call", [*messages][-1], id))


def test_several_runs_are_cancelled_at_once(house: House) -> None:
    house.cli.forget()
    speaker = Speaker(house.server.client)
    tasks = [{"backend": "claude", "prompt": do(["say", f"{number}"], ["hang"])} for number in range(2)]
    with speaker.open("parallel", {"tasks": tasks}, id=9) as stream:
        messages = speaker.messages(stream)
        pids = [report["pid"] for report in house.cli.wait_for(2)]
        assert speaker.note("notifications/cancelled", {"requestId": 9}) == 202
        assert eventually(lambda: not any(map(alive, pids)), within_s=GONE_S)
        assert "cancelled" in failure(speaker.result("tools/call", [*messages][-1], 9))


def test_a_stateless_client_cancels_by_leaving_alone(house: House) -> None:
    """A client could name the request of another one: ids are the clients' own, and there is no session to tell them apart."""
    house.cli.forget()
    speaker = Speaker(house.server.client, STATELESS)
    with speaker.open("prompt", {"backend": "claude", "prompt": do(["say", "on"], ["wait", 0.5])}, id=5) as stream:
        messages = speaker.messages(stream)
        next(messages)
        assert speaker.note("notifications/cancelled", {"requestId": 5}) == 202
        assert told(speaker.result("tools/call", [*messages][-1], 5))["output"] == "on"


def test_work_in_the_background_is_awaited(speaker: Speaker) -> None:
    submitted = told(speaker.call("submit", {"backend": "claude", "prompt": do(["wait", 0.3], ["say", "there"])}))
    assert set(submitted) == {"run_id", "status"}
    with speaker.open("wait", {"run_id": submitted["run_id"], "timeout_secs": 0}) as stream:
        (soon,) = speaker.messages(stream)
    assert told(speaker.result("tools/call", soon))["status"] in ("queued", "running")
    result = speaker.call("wait", {"run_id": submitted["run_id"]})
    assert (told(result)["output"], told(result)["run_id"], result["isError"]) == ("there", submitted["run_id"], False)
    again = told(speaker.call("submit", {"prompt": "go on", "session_id": told(result)["session_id"]}))
    assert told(speaker.call("wait", {"run_id": again["run_id"]}))["session_id"] == told(result)["session_id"]


def test_nobody_waits_for_a_server_that_stops(server: ServerFactory, fake_cli: FakeCli) -> None:
    config = {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"max_concurrent_runs": 1}}
    one = server(config)
    client = Speaker(one.client)
    with client.open("prompt", {"prompt": do(["say", "on"], ["hang"])}) as first:
        next(client.messages(first))
        run_id = told(client.call("submit", {"prompt": "second"}))["run_id"]
        with client.open("wait", {"run_id": run_id}, id=2) as waiting:
            one.signal(signal.SIGTERM)
            (answer,) = client.messages(waiting)
        assert told(client.result("tools/call", answer, 2)) == {"run_id": run_id, "status": "queued"}


def test_a_run_that_is_over_and_not_kept_is_told_to_be_none(client: Speaker, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with client.open("prompt", {"backend": "claude", "prompt": do(["say", "on"], ["wait_for", str(go)])}) as stream:
        messages = client.messages(stream)
        next(messages)
        (run,) = [run for run in runs(client.client) if run["status"] == "running"]
        with client.open("wait", {"run_id": run["id"]}, id=2) as waiting:
            go.touch()
            (answer,) = client.messages(waiting)
        assert failure(client.result("tools/call", answer, 2)) == f"there is no run {run['id']!r}"
        assert told(client.result("tools/call", [*messages][-1]))["output"] == "on"


def test_work_in_the_background_is_cancelled(client: Speaker, house: House) -> None:
    house.cli.forget()
    run_id = told(client.call("submit", {"backend": "claude", "prompt": do(["spawn"], ["hang"])}))["run_id"]
    tree = [house.cli.pid(), *house.cli.children()]
    assert told(client.call("cancel", {"run_id": run_id}))["run_id"] == run_id
    assert eventually(lambda: not any(map(alive, tree)), within_s=GONE_S)
    assert "cancelled" in failure(client.call("wait", {"run_id": run_id}))
    assert told(client.call("cancel", {"run_id": run_id})) == {"run_id": run_id, "status": "cancelled"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/v1/responses", {"model": "demo", "input": "hi", "background": True}),
        ("/api/v1/compare", {"backends": ["demo", "echo"], "prompt": "hi", "background": True}),
    ],
)
def test_a_run_of_another_surface_is_awaited_too(client: Speaker, path: str, body: dict[str, Any]) -> None:
    run_id = client.client.post(path, body).headers["X-Clinvk-Run-Id"]
    result = client.call("wait", {"run_id": run_id})
    assert result["isError"] is False
    assert "hi" in result["content"][0]["text"]


def test_calls_are_runs_of_the_kinds_that_there_are(client: Speaker) -> None:
    prompt = do(["say", "on"], ["hang"])
    with client.open("prompt", {"backend": "claude", "prompt": prompt}) as one:
        next(client.messages(one))
        with client.open("compare", {"backends": ["claude"], "prompt": prompt}) as other:
            next(client.messages(other))
            assert sorted(run["kind"] for run in runs(client.client) if run["status"] == "running") == ["compare", "prompt"]


@pytest.mark.parametrize("accept", ["application/json", STREAM], ids=["JSON", "stream"])
def test_the_server_s_dry_run_holds(server: ServerFactory, fake_cli: FakeCli, accept: str) -> None:
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "unified_flags": {"dry_run": True}})
    client = Speaker(one.client)
    for name in ("prompt", "submit"):
        assert "stream-json" in told(client.call(name, {"prompt": "hi"}))["output"]
    assert "stream-json" in told(client.call("compare", {"prompt": "hi", "backends": ["claude"]}))["output"]
    assert (fake_cli.reports(), runs(one.client)) == ([], [])


def test_a_run_that_waits_for_its_slot_is_not_silent(server: ServerFactory, fake_cli: FakeCli) -> None:
    config = {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}}
    one = server(config | {"server": {"max_concurrent_runs": 1, "max_queued_runs": 1}})
    client = Speaker(one.client)
    with client.open("prompt", {"prompt": do(["say", "on"], ["hang"])}) as first:
        next(client.messages(first))
        with client.open("prompt", {"prompt": "second"}, id=2) as second:
            assert (second.status, second.headers["Content-Type"]) == (200, "text/event-stream")  # and it has no slot
            assert eventually(lambda: [run["status"] for run in runs(one.client)] == ["queued", "running"])
            with client.open("prompt", {"prompt": "third"}, id=3) as third:
                (full,) = client.messages(third)
            assert "try again in" in failure(client.result("tools/call", full, 3))
            client.note("notifications/cancelled", {"requestId": 2})
            (cancelled,) = client.messages(second)
            assert "cancelled" in failure(client.result("tools/call", cancelled, 2))
    assert len(fake_cli.reports()) == 1


KEYS = {"ada": "key-of-ada-0123456789", "bob": "key-of-bob-0123456789"}


def keyed(server: ServerFactory, fake_cli: FakeCli, **more: Any) -> dict[str, Speaker]:
    """Two callers of one server, and one who has no key."""
    keys = [f"{name}={key}" for name, key in KEYS.items()]
    backends = {"claude": fake_cli.backend()}
    one = server({"default_backend": "claude", "backends": backends, "server": {"api_keys": keys, **more}})
    clients = {name: Client(one.url, {"Authorization": f"Bearer {key}"}) for name, key in KEYS.items()}
    return {name: Speaker(client) for name, client in (clients | {"nobody": Client(one.url)}).items()}


def test_a_key_is_required_and_the_things_of_another_are_unknown(server: ServerFactory, fake_cli: FakeCli) -> None:
    callers = keyed(server, fake_cli)
    ada, bob, nobody = callers["ada"], callers["bob"], callers["nobody"]
    for speaker in (nobody, Speaker(Client(nobody.client.url, {"Authorization": "Bearer wrong-key-0123456789"}))):
        answer = speaker.post(speaker.message("tools/list"))
        assert (answer.status, answer.headers["WWW-Authenticate"], error_code(answer)) == (401, "Bearer", -32003)
    session = told(ada.call("prompt", {"prompt": "hello"}))["session_id"]
    run_id = told(ada.call("submit", {"prompt": "hello"}))["run_id"]
    unknown = "0" * 8 + session[8:]
    foreign, missing = (failure(bob.call("prompt", {"prompt": "x", "session_id": id})) for id in (session, unknown))
    assert foreign == missing.replace(unknown, session)
    for tool in ("wait", "cancel"):
        assert failure(bob.call(tool, {"run_id": run_id})) == f"there is no run {run_id!r}"
    assert told(ada.call("wait", {"run_id": run_id}))["error"] is None


def test_what_runs_a_cli_counts_and_nothing_else_does(server: ServerFactory, fake_cli: FakeCli) -> None:
    callers = keyed(server, fake_cli, rate_limit_enabled=True, rate_limit_rps=0.01, rate_limit_burst=len(RUNS_CLI))
    ada = callers["ada"]
    arguments = {name: {**given, **({"backend": "claude"} if "backend" in given else {})} for name, given in RUNS_CLI.items()}
    for _ in range(3):
        for method in ("ping", "tools/list"):
            ada.ask(method)
        ada.call("list_backends")
        ada.call("wait", {"run_id": "run_00"})
    for name, given in arguments.items():
        assert ada.call(name, given)["content"]
    for name, given in arguments.items():
        answer = ada.post(ada.message("tools/call", {"name": name, "arguments": given}), STREAM)
        assert (answer.status, error_code(answer)) == (429, -32003)
        assert int(answer.headers["Retry-After"]) >= 1
    ada.call("list_backends")
    assert callers["bob"].call("prompt", {"prompt": "hi"})["isError"] is False


def test_a_cancellation_reaches_a_run_of_another_worker_but_not_of_another_key(server: ServerFactory, fake_cli: FakeCli) -> None:
    """Each request is answered by either worker, so of many cancellations some reach the wrong one."""
    session = {"Mcp-Session-Id": "shared"}
    callers = keyed(server, fake_cli, workers=2)
    ada, bob = (Speaker(callers[name].client, headers=session) for name in KEYS)
    for number in range(3):
        fake_cli.forget()
        with ada.open("prompt", {"prompt": do(["say", "on"], ["hang"])}, id=number) as stream:
            messages = ada.messages(stream)
            next(messages)
            pid = fake_cli.pid()
            for _ in range(4):
                assert bob.note("notifications/cancelled", {"requestId": number}) == 202
            assert alive(pid)
            assert ada.note("notifications/cancelled", {"requestId": number}) == 202
            assert eventually(lambda pid=pid: not alive(pid), within_s=GONE_S)


@pytest.mark.parametrize(("name", "value"), [("Host", "evil.example"), ("Origin", "https://evil.example")])
def test_a_web_page_of_another_site_gets_nothing(client: Speaker, name: str, value: str) -> None:
    answer = client.post(client.message("tools/list"), **{name: value})
    assert (answer.status, error_code(answer)) == (403, -32003)


def test_an_agent_knows_its_depth_and_the_chain_ends(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    command = ["sh", "-c", 'cat > /dev/null; echo "$CLINVK_DEPTH"']
    backends = {"shell": {"command": command, "custom": {"output": "text"}}}
    one = server({"default_backend": "shell", "backends": backends, "server": {"mcp_max_depth": 3}})
    client = Speaker(one.client)

    def ask(name: str, depth: int) -> dict[str, Any]:
        message = client.message("tools/call", {"name": name, "arguments": {"prompt": "how deep?"}})
        return client.result("tools/call", client.post(message, X_Clinvk_Depth=str(depth)).json)

    assert [told(ask("prompt", depth))["output"].strip() for depth in range(3)] == ["1", "2", "3"]
    for name in ("prompt", "submit"):
        assert "server.mcp_max_depth" in failure(ask(name, 3))
        assert "yourself" in failure(ask(name, 9999))
    later = told(ask("submit", 2))["run_id"]
    assert told(client.call("wait", {"run_id": later}))["output"].strip() == "3"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/prompt", {"prompt": "hi"}),
        ("/api/v1/chain", {"steps": [{"prompt": "hi"}]}),
        ("/openai/v1/chat/completions", {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}),
        ("/openai/v1/responses", {"model": "demo", "input": "hi"}),
        ("/anthropic/v1/messages", {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}),
    ],
)
def test_the_chain_ends_on_every_surface(house: House, path: str, body: dict[str, Any]) -> None:
    for depth, status in (("1", 200), ("2", 400), ("x", 400)):
        answer = house.server.client.post(path, body, headers={"X-Clinvk-Depth": depth})
        assert (answer.status, "X-Clinvk-Depth" in answer.body.decode() or "mcp_max_depth" in answer.body.decode()) == (
            status,
            status == 400,
        )
