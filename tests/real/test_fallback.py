"""Claude Code cannot answer, Codex does: on every surface, and only before Claude's first word or tool call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts.client import Answer
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Reply, tokens
from tests.parts.processes import eventually
from tests.parts.server import LOG_TAIL_CHARS, Server
from tests.record.cases import BY_SUBSCRIPTION, anthropic_plan

pytestmark = pytest.mark.real_cli


@dataclass(frozen=True)
class Pair:
    """Claude Code with its own retries, and Codex in its place; `subscriber` is another account of Claude Code."""

    server: Server
    api: FakeModelApi
    workdir: Path

    def ask(self, surface: str, *, stream: bool = False, model: str = "claude", **more: Any) -> Answer:
        client, headers = self.server.client, {"X-Clinvk-Workdir": str(self.workdir)}
        messages = [{"role": "user", "content": "the question"}]
        match surface:
            case "native":
                accept = {"Accept": "text/event-stream"} if stream else {}
                body = {"backend": model, "prompt": "the question", "workdir": str(self.workdir), "approval_mode": "none", **more}
                return client.post("/api/v1/prompt", body, headers=accept)
            case "chat":
                return client.post("/openai/v1/chat/completions", {"model": model, "messages": messages, "stream": stream}, headers=headers)
            case "responses":
                return client.post("/openai/v1/responses", {"model": model, "input": "the question", "stream": stream}, headers=headers)
        body = {"model": model, "messages": messages, "max_tokens": 99, "stream": stream}
        return client.post("/anthropic/v1/messages", body, headers=headers)

    def asked(self, dialect: str) -> int:
        return sum(exchange.dialect == dialect for exchange in self.api.about("the question"))


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    for name in ("claude", "codex"):
        require(name)
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("pair")
    folder.chmod(0o755)
    claude, codex = (real_cli_in(folder / name, name, api.url) for name in ("claude", "codex"))
    env = {**claude.env, **codex.env, **NO_WAY_OUT, "PATH": cli_path()}
    del env["CLAUDE_CODE_MAX_RETRIES"]
    account = {**claude.backend["env"], **BY_SUBSCRIPTION, "CLAUDE_CONFIG_DIR": str(folder / "subscriber")}
    backends = {
        "claude": {**claude.backend, "fallback": ["codex"]},
        "codex": codex.backend,
        "subscriber": {"like": "claude", "env": account, "fallback": ["codex"]},
    }
    server = Server(folder, {"backends": backends}, env)
    workdir = folder / "project"
    workdir.mkdir()
    yield Pair(server, api, workdir)
    try:
        server.stop()
    finally:
        api.stop()


@pytest.fixture
def pair(standing: Pair) -> Iterator[Pair]:
    standing.api.forget()
    logged = len(standing.server.log())
    yield standing
    gone = eventually(lambda: not standing.server.runs())
    print(standing.server.log()[logged:][-LOG_TAIL_CHARS:])
    assert gone, "a process was left behind"


REASONS = {429: "rate_limited", 529: "overloaded", 401: "not_logged_in"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("surface", ["native", "chat", "responses", "messages"])
@pytest.mark.parametrize("status", REASONS)
def test_codex_answers_where_claude_cannot(pair: Pair, status: int, surface: str, stream: bool) -> None:
    pair.api.script("the question", Reply(status=status), dialect="anthropic")
    pair.api.script("the question", Reply(text=tokens(3, "codex")), dialect="responses")
    answer = pair.ask(surface, stream=stream)
    assert (answer.status, answer.headers["X-Clinvk-Fallback"]) == (200, f"claude={REASONS[status]}"), answer.body
    assert b"codex2" in answer.body
    assert pair.asked("responses") == 1
    assert pair.asked("anthropic") >= 1
    assert all(exchange.reply.status == status for exchange in pair.api.about("the question") if exchange.dialect == "anthropic")


BEGUN = {
    "word": (Reply(text=tokens(4), fail_after=2, message="Overloaded"),),
    "tool": (Reply(shell="echo x >> ran.txt"), Reply(status=400, message="Overloaded")),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("begun", BEGUN)
def test_nothing_answers_for_claude_once_it_has_begun(pair: Pair, begun: str, stream: bool) -> None:
    pair.api.script("the question", *BEGUN[begun], dialect="anthropic")
    answer = pair.ask("native", stream=stream, ephemeral=True)
    assert "X-Clinvk-Fallback" not in answer.headers
    assert b"verloaded" in answer.body
    assert pair.asked("responses") == 0
    ran = pair.workdir / "ran.txt"
    if begun == "tool":
        assert ran.read_text() == "x\n"
        ran.unlink()


def test_a_session_goes_on_with_codex(pair: Pair) -> None:
    pair.api.script("the question", Reply(status=529), dialect="anthropic")
    pair.api.script("the question", Reply(text="from codex"), dialect="responses")
    first = pair.ask("native", sandbox_mode="full").json
    assert (first["backend"], first["output"]) == ("codex", "from codex")
    pair.api.script("and then?", Reply(text="more of codex"))
    later = pair.server.client.post(f"/api/v1/sessions/{first['session_id']}/resume", {"prompt": "and then?"}).json
    assert (later["backend"], later["output"]) == ("codex", "more of codex")
    assert pair.api.last("responses").mentions("from codex")


def test_an_account_that_has_used_up_its_plan_is_left_alone_until_the_reset(pair: Pair) -> None:
    pair.api.script("the question", Reply(status=429, headers=anthropic_plan("rejected", 1)), dialect="anthropic")
    pair.api.script("the question", Reply(text="from codex"), dialect="responses")
    first = pair.ask("chat", model="subscriber")
    assert (first.status, first.headers["X-Clinvk-Fallback"]) == (200, "subscriber=rate_limited")
    plans = {plan["backend"]: plan["windows"] for plan in pair.server.client.get("/api/v1/usage/plans").json["plans"]}
    window = next(window for window in plans["subscriber"] if window["name"] == "five_hour")
    assert window["status"] == "rejected"
    asked = pair.asked("anthropic")
    assert pair.ask("chat", model="subscriber").headers["X-Clinvk-Fallback"] == "subscriber=rate_limited"
    assert pair.asked("anthropic") == asked, "it was asked again"
    assert (Path(pair.server.home).parent / "subscriber").is_dir(), "the account's own folder"


def test_processes_that_were_there_before_fail_over_as_well(tmp_path: Path) -> None:
    """Either CLI in the other's place, both kept warm; Codex asks its model again by itself."""
    for name in ("claude", "codex"):
        require(name)
    api = FakeModelApi().start()
    tmp_path.chmod(0o755)
    claude, codex = (real_cli_in(tmp_path / name, name, api.url) for name in ("claude", "codex"))
    settings = Path(codex.env["CODEX_HOME"]) / "config.toml"
    settings.write_text(settings.read_text().replace("stream_max_retries = 0", "stream_max_retries = 5"))
    env = {**claude.env, **codex.env, **NO_WAY_OUT, "PATH": cli_path()}
    warm = {"warm": {"max": 2}}
    backends = {"claude": {**claude.backend, **warm, "fallback": ["codex"]}, "codex": {**codex.backend, **warm}}
    backends["mirror"] = {"like": "codex", "env": {}, "fallback": ["claude"]}
    server = Server(tmp_path, {"backends": backends}, env)
    try:
        pair = Pair(server, api, server.workdir)
        for first, dialect, other in (("claude", "anthropic", "codex"), ("mirror", "responses", "claude")):
            api.forget()
            api.script("the question", Reply(status=503), dialect=dialect)
            for number in range(3):
                answer = pair.ask("native", model=first, ephemeral=True, approval_mode="default")
                assert answer.headers["X-Clinvk-Fallback"] == f"{first}=overloaded", answer.body
                assert (answer.json["backend"], answer.json["output"]) == (other, "ok")
                served = [exchange for exchange in api.about("the question") if exchange.dialect != dialect]
                assert len(served) == number + 1
        warm_runs = [line for line in server.log().splitlines() if '"start": "warm"' in line]
        assert warm_runs, "no run was warm"
    finally:
        try:
            server.stop()
        finally:
            api.stop()
