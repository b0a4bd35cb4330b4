"""Several real CLIs at work on one request; the fake model API tells what each of them asked."""

from __future__ import annotations

import pytest

from tests.conftest import Rig
from tests.parts.clis import REAL_CLIS, require
from tests.parts.model_api import Reply, tokens
from tests.parts.native import text
from tests.parts.processes import eventually

SSE = {"Accept": "text/event-stream"}
SAID = {
    "claude": [*tokens(5, "claude"), " é漢字🙂 {{previous}}\n\n  @file /cmd"],
    "codex": [*tokens(5, "codex"), " ñ\u2028— ”\t{{steps.claude.output}}"],
    "gemini": [*tokens(5, "gemini"), " ü"],
}
WHOLE = {name: "".join(said) for name, said in SAID.items()}


@pytest.fixture
def all_three(rig: Rig) -> Rig:
    for name in REAL_CLIS:
        require(name)
    rig.api.forget()
    for name in REAL_CLIS:
        rig.api.script(f"question for {name}", Reply(text=SAID[name], input_tokens=1000, output_tokens=56))
    return rig


@pytest.mark.real_cli
@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_a_chain_of_three_clis_passes_its_text_on_unchanged(all_three: Rig, streams: bool) -> None:
    steps = [
        {"name": "claude", "backend": "claude", "prompt": "question for claude"},
        {"name": "codex", "backend": "codex", "prompt": "question for codex: <{{previous}}>"},
        {"name": "gemini", "backend": "gemini", "prompt": "question for gemini: <{{previous}}> <{{steps.claude.output}}>"},
    ]
    body = {"steps": steps}
    if streams:
        with all_three.server.client.open("POST", "/api/v1/chain", body, SSE) as stream:
            found = [arrival.json for arrival in stream.events()]
        answer = found.pop()["content"]
        assert [text(event for event in found if event["step"] == n) for n in range(3)] == [WHOLE[name] for name in REAL_CLIS]
    else:
        answer = all_three.server.client.post("/api/v1/chain", body).json
    assert [part["output"] for part in answer["results"]] == [WHOLE[name] for name in REAL_CLIS]
    assert (answer["completed_steps"], answer["failed_step"]) == (3, None)
    (to_codex,) = all_three.api.about("question for codex")
    (to_gemini,) = all_three.api.about("question for gemini")
    assert to_codex.dialect == "responses"
    assert any(f"question for codex: <{WHOLE['claude']}>" in said for said in to_codex.user_texts)
    assert to_gemini.dialect == "gemini"
    assert any(f"question for gemini: <{WHOLE['codex']}> <{WHOLE['claude']}>" in said for said in to_gemini.user_texts)
    assert eventually(lambda: not all_three.server.runs())


@pytest.mark.real_cli
def test_compare_asks_all_three_and_two_models_of_one(all_three: Rig) -> None:
    all_three.api.script("the same question", Reply(text="an answer", input_tokens=1000, cached_tokens=234, output_tokens=56))
    targets = [{"backend": name} for name in REAL_CLIS] + [{"backend": "codex", "model": "gpt-5-mini"}]
    answer = all_three.server.client.post("/api/v1/compare", {"prompt": "the same question", "targets": targets}).json
    assert [(part["backend"], part["output"], part["error"]) for part in answer["results"]] == [
        (target["backend"], "an answer", None) for target in targets
    ]
    assert all(part["token_usage"]["input_tokens"] == 1234 for part in answer["results"])
    assert all(part["token_usage"]["output_tokens"] == 56 for part in answer["results"])
    assert sorted(exchange.model for exchange in all_three.api.about("the same question") if exchange.dialect == "responses") == [
        "gpt-5",
        "gpt-5-mini",
    ]
    assert answer["results"][0]["cost_usd"] > 0
    assert eventually(lambda: not all_three.server.runs())
