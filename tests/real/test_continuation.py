"""`server.continue_conversations` on the real Claude Code, Codex and Gemini CLI: the model is told every earlier message once, in its role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.conftest import Real
from tests.parts.clis import NO_WAY_OUT, REAL_CLIS, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.server import Server
from tests.real.test_sessions import FOLDERS, seen

SURFACES = ("chat stream", "messages")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, FakeModelApi, dict[str, Any]]]:
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("continued")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in REAL_CLIS}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    config = {"backends": {name: cli.backend for name, cli in clis.items()}, "server": {"continue_conversations": True}}
    server = Server(folder, config, env)
    yield server, api, clis
    try:
        server.stop()  # and with it go the sessions
        left = [
            path for name, cli in clis.items() for path in Path(cli.env[FOLDERS[name]]).rglob("*.jsonl") if "answer-" in path.read_text()
        ]
        assert not left
    finally:
        api.stop()


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in REAL_CLIS])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Real:
    require(request.param)
    server, api, clis = request.getfixturevalue("house")
    api.forget()
    workdir = tmp_path / "project"
    workdir.mkdir()
    return Real(clis[request.param], server, api, workdir)


def say(real: Real, surface: str, messages: list[Any]) -> str:
    headers = {"X-Clinvk-Workdir": str(real.workdir)}
    kind, _, stream = surface.partition(" ")
    if kind == "chat":
        with openai.OpenAI(base_url=f"{real.server.url}/openai/v1", api_key="any", max_retries=0, default_headers=headers) as client:
            if stream:
                chunks = list(client.chat.completions.create(model=real.name, messages=messages, stream=True))
                return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            answer = client.chat.completions.create(model=real.name, messages=messages)
            messages.append(answer.choices[0].message)
            return answer.choices[0].message.content or ""
    with anthropic.Anthropic(base_url=f"{real.server.url}/anthropic", api_key="any", max_retries=0, default_headers=headers) as asker:
        if stream:
            with asker.messages.stream(model=real.name, max_tokens=1000, messages=messages) as events:
                message = events.get_final_message()
        else:
            message = asker.messages.create(model=real.name, max_tokens=1000, messages=messages)
    messages.append({"role": "assistant", "content": message.content})
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.parametrize("surface", SURFACES)
def test_at_the_third_message_the_model_knows_the_first_two_in_their_roles(real: Real, surface: str) -> None:
    messages: list[Any] = []
    for number, name in enumerate(("one", "two", "three"), 1):
        real.api.script(f"question-{name}", Reply(text=f"answer-{name}", input_tokens=100 * number, output_tokens=number))
        messages.append({"role": "user", "content": f"question-{name}"})
        assert say(real, surface, messages) == f"answer-{name}"
        if surface == "chat stream":
            messages.append({"role": "assistant", "content": f"answer-{name}"})
    assert seen(real, "question-one", "answer-one", "question-two", "answer-two", "question-three") == [1, 1, 1, 1, 1]
    last = real.api.about("question-three")[-1]
    assert [text.strip() for text in last.user_texts if "question-" in text] == ["question-one", "question-two", "question-three"]


def test_a_session_whose_files_are_gone_is_told_in_full(real: Real) -> None:
    for name in ("one", "two", "three"):
        real.api.script(f"question-{name}", Reply(text=f"answer-{name}"))
    messages: list[Any] = [{"role": "user", "content": "question-one"}]
    say(real, "chat", messages)
    folder = Path(real.cli.env[FOLDERS[real.name]])
    kept = [path for path in folder.rglob("*.jsonl") if "answer-one" in path.read_text() and "question-two" not in path.read_text()]
    assert kept
    for path in kept:
        path.unlink()
    messages.append({"role": "user", "content": "question-two"})
    assert say(real, "chat", messages) == "answer-two"
    assert seen(real, "question-one", "answer-one", "question-two") == [1, 1, 1]
    last = real.api.about("question-two")[-1]
    if real.name == "gemini":
        assert "question-one" in next(text for text in last.user_texts if "question-two" in text)  # a transcript
    else:
        assert [text for text in last.user_texts if "question-" in text] == ["question-one", "question-two"]
    messages.append({"role": "user", "content": "question-three"})
    assert say(real, "chat", messages) == "answer-three"
    last = real.api.about("question-three")[-1]
    assert last.user_texts[-1].strip() == "question-three"
    assert seen(real, "question-one", "answer-one", "question-two", "answer-two", "question-three") == [1, 1, 1, 1, 1]


def test_another_system_prompt_is_told_in_full(real: Real) -> None:
    for name in ("one", "two"):
        real.api.script(f"question-{name}", Reply(text=f"answer-{name}"))
    messages: list[Any] = [{"role": "user", "content": "question-one"}]
    say(real, "chat", messages)
    messages = [{"role": "system", "content": "You are a pirate-7."}, *messages, {"role": "user", "content": "question-two"}]
    assert say(real, "chat", messages) == "answer-two"
    assert "pirate-7" in real.api.system_text(real.cli.dialect)
    assert seen(real, "question-one", "answer-one", "question-two") == [1, 1, 1]
