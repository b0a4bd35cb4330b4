"""Sessions on the real Claude Code, Codex and Gemini CLI: the model API sees what was said before, once, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Real, ServerFactory
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.native import text
from tests.parts.sessions import begin, fork, resume, resume_stream, show, turns

FOLDERS = {"claude": "CLAUDE_CONFIG_DIR", "codex": "CODEX_HOME", "gemini": "GEMINI_CLI_HOME"}


def start(real: Real, prompt: str, **fields: object) -> str:
    return begin(real.server.client, real.name, prompt, workdir=str(real.workdir), **fields)


def transcripts(real: Real) -> list[Path]:
    """The files that the CLI keeps its sessions in."""
    return sorted(Path(real.cli.env[FOLDERS[real.name]]).rglob("*.jsonl"))


def seen(real: Real, *words: str) -> list[int]:
    """How often the last request to the model had each word in what the user and the model have said."""
    (exchange,) = [one for one in real.api.exchanges if one.dialect == real.cli.dialect][-1:]
    said = [string for string in strings_of(exchange.body) if any(word in string for word in words)]
    return [sum(string.count(word) for string in said) for word in words]


def strings_of(value: object) -> list[str]:
    """Every string that somebody said: not the keys, and not the system's."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        left_out = ("system", "instructions", "tools", "systemInstruction", "metadata", "client_metadata")
        return [string for key, item in value.items() if key not in left_out for string in strings_of(item)]
    return [string for item in value for string in strings_of(item)] if isinstance(value, list) else []


def script(real: Real, *names: str) -> None:
    for number, name in enumerate(names, 1):
        real.api.script(f"question-{name}", Reply(text=f"answer-{name}", input_tokens=100 * number, cached_tokens=10, output_tokens=number))


@pytest.mark.smoke
def test_two_resumed_turns_and_a_fork_tell_the_model_what_was_said_before_once(real: Real) -> None:
    client = real.server.client
    script(real, "one", "two", "three", "fork", "four")
    id = start(real, "question-one", title="a story", tags=["t"])
    second = resume(client, id, "question-two").json
    assert (second["output"], second["session_id"], second["error"]) == ("answer-two", id, None)
    assert seen(real, "question-one", "answer-one", "question-two") == [1, 1, 1]
    found = resume_stream(client, id, "question-three", sse=True)
    assert (text(found), found[0]["session_id"], found[-1]["type"]) == ("answer-three", id, "done")
    assert {event["session_id"] for event in found} == {id}
    assert seen(real, "question-one", "answer-one", "question-two", "answer-two", "question-three") == [1, 1, 1, 1, 1]

    forked = fork(client, id, title="another end")
    assert (forked["parent_id"], forked["is_rebuilt_next"], forked["turn_count"]) == (id, False, 3)
    assert resume(client, id, "question-four").json["output"] == "answer-four"
    assert resume(client, forked["id"], "question-fork").json["output"] == "answer-fork"
    words = ("question-one", "question-two", "answer-three", "question-fork", "question-four")
    assert seen(real, *words) == [1, 1, 1, 1, 0]
    assert resume(client, id, "question-two again").json["output"] == "answer-two"
    assert seen(real, "question-four", "answer-four", "question-fork") == [1, 1, 0]

    asked = [(turn["prompt"], turn["output"], turn["status"]) for turn in turns(client, id)]
    assert asked[:3] == [(f"question-{name}", f"answer-{name}", "finished") for name in ("one", "two", "three")]
    assert [turn["token_usage"]["input_tokens"] for turn in turns(client, id)] == [110, 210, 310, 510, 210]
    assert [turn["token_usage"]["output_tokens"] for turn in turns(client, id)] == [1, 2, 3, 5, 2]
    assert second["token_usage"]["input_tokens"] == 210
    kept = show(client, id)
    assert (kept["turn_count"], kept["token_usage"]["input_tokens"], kept["title"], kept["tags"]) == (5, 1350, "a story", ["t"])
    if real.name == "claude":
        assert kept["cost_usd"] == pytest.approx(sum(turn["cost_usd"] for turn in turns(client, id)))
    inherited = turns(client, forked["id"])
    assert [turn["is_inherited"] for turn in inherited] == [True, True, True, False]
    assert inherited[3]["token_usage"]["input_tokens"] == 410
    assert show(client, forked["id"])["token_usage"]["input_tokens"] == 410


def test_a_system_prompt_stays_with_the_session(real: Real) -> None:
    script(real, "one", "two")
    id = start(real, "question-one", system_prompt="You are a pirate-7.")
    assert resume(real.server.client, id, "question-two").status == 200
    assert "pirate-7" in real.api.system_text(real.cli.dialect)


@pytest.mark.smoke
def test_a_turn_with_a_system_prompt_of_its_own_has_that(real: Real) -> None:
    script(real, "one", "two")
    id = start(real, "question-one", system_prompt="You are a pirate-7.")
    assert resume(real.server.client, id, "question-two", system_prompt="You are a parrot-8.").status == 200
    assert "parrot-8" in real.api.system_text(real.cli.dialect)
    assert "pirate-7" not in real.api.system_text(real.cli.dialect)
    assert seen(real, "question-one", "answer-one", "question-two") == [1, 1, 1]


def test_a_session_whose_cli_files_are_gone_says_so_and_is_rebuilt_when_asked(real: Real) -> None:
    client = real.server.client
    script(real, "one", "two", "three")
    before = transcripts(real)
    id = start(real, "question-one")
    for path in {*transcripts(real)} - {*before}:
        path.unlink()
    refused = resume(client, id, "question-two")
    assert (refused.status, refused.json["error"]["code"]) == (404, "not_found")
    assert "rebuild: true" in refused.json["error"]["message"]
    assert len(turns(client, id)) == 1
    assert resume(client, id, "question-two", rebuild=True).json["output"] == "answer-two"
    assert seen(real, "question-one", "answer-one", "question-two") == [1, 1, 1]
    assert resume(client, id, "question-three").json["output"] == "answer-three"
    assert seen(real, "question-one", "answer-one", "question-two", "answer-two", "question-three") == [1, 1, 1, 1, 1]
    assert [turn["prompt"] for turn in turns(client, id)] == ["question-one", "question-two", "question-three"]


@pytest.mark.smoke
def test_deleting_a_session_deletes_the_cli_s_files_of_it_alone(real: Real) -> None:
    client = real.server.client
    script(real, "one")
    kept = start(real, "question-one")
    before = transcripts(real)
    id = start(real, "question-one")
    forked = fork(client, id)["id"]
    assert len(transcripts(real)) == len(before) + 2
    for gone in (id, forked):
        answer = client.ask("DELETE", f"/api/v1/sessions/{gone}")
        assert (answer.status, answer.json["deleted"]) == (200, True)
        assert client.get(f"/api/v1/sessions/{gone}").status == 404
    assert transcripts(real) == before
    assert resume(client, kept, "question-one").status == 200


def test_an_ephemeral_run_leaves_no_session(real: Real) -> None:
    script(real, "one")
    before = (transcripts(real), real.server.client.get("/health").json["sessions"]["count"])
    assert real.ask("question-one", ephemeral=True)["session_id"] is None
    assert (transcripts(real), real.server.client.get("/health").json["sessions"]["count"]) == before


@pytest.mark.real_cli
def test_codex_exec_counts_a_whole_thread_and_a_turn_still_has_its_own_numbers(
    server: ServerFactory, model_api: FakeModelApi, tmp_path: Path
) -> None:
    require("codex")
    cli = real_cli_in(tmp_path / "codex", "codex", model_api.url)
    one = server({"backends": {"codex": {"model": cli.model, "driver": "exec"}}}, env={**cli.env, **NO_WAY_OUT, "PATH": cli_path()})
    for number in (1, 2, 3):
        model_api.script(f"question-{number}", Reply(input_tokens=100 * number, cached_tokens=10, output_tokens=number))
    id = begin(one.client, "codex", "question-1")
    assert resume(one.client, id, "question-2").json["token_usage"]["input_tokens"] == 210
    forked = fork(one.client, id)["id"]
    assert resume(one.client, id, "question-3").json["token_usage"]["output_tokens"] == 3
    assert resume(one.client, forked, "question-3").json["token_usage"]["input_tokens"] == 310
    assert [turn["token_usage"]["input_tokens"] for turn in turns(one.client, id)] == [110, 210, 310]
    assert show(one.client, id)["token_usage"]["input_tokens"] == 630
