"""Two callers, warm processes, and what the model is asked for one of them: nothing of the other's is ever in it."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Real
from tests.parts.model_api import Reply
from tests.parts.model_api.server import strings
from tests.real.test_warm import ready, real, warm_rig, warm_runs  # noqa: F401

CALLERS = ("alice", "bob")
RULES = ("CLAUDE.md", "AGENTS.md", "GEMINI.md")


def test_a_caller_s_requests_hold_nothing_of_another_s(real: Real, tmp_path: Path) -> None:  # noqa: F811
    """Not the prompt, the system prompt, the rules of the folder, its path, a file, what a tool said, nor the environment."""
    folders = {name: tmp_path / f"folder-of-{name}" for name in CALLERS}
    for name, folder in folders.items():
        folder.mkdir()
        for rules in RULES:
            (folder / rules).write_text(f"rules-of-{name}")
        (folder / "file.txt").write_text(f"file-of-{name}")
    before = warm_runs(real)
    for number in range(4):
        for name, folder in folders.items():
            ask(real, name, folder)
            if number:
                ready(real, folder)
    assert warm_runs(real) > before


def ask(real: Real, name: str, folder: Path) -> None:  # noqa: F811
    real.api.forget()
    command = f"env; pwd; cat file.txt; echo tool-of-{name}; export LEFT=left-of-{name}"
    real.api.script(f"prompt-of-{name}", Reply(text="", shell=command), Reply(text=f"answer-to-{name}"))
    fields = {"system_prompt": f"system-of-{name}", "workdir": str(folder), **real.cli.shell_options}
    answer = real.server.client.prompt(real.name, f"prompt-of-{name}", **fields)
    assert (answer.status, answer.json["output"]) == (200, f"answer-to-{name}")
    (other,) = (caller for caller in CALLERS if caller != name)
    words = [f"{kind}-of-{name}" for kind in ("prompt", "system", "rules", "folder", "file", "tool")]
    assert [word for word in words if not real.api.mentions(word)] == []
    said = [text for exchange in list(real.api.exchanges) for text in strings(exchange.body)]
    assert [text for text in said if f"-of-{other}" in text or f"-to-{other}" in text] == []
