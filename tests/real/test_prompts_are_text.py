"""A prompt reaches the model as the text it is: no flag, no command, no file is made of it by the real CLIs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Real
from tests.parts.model_api import Reply

SECRET = "the-launch-code-is-000000"

INERT = {
    "flag": "--help",
    "flag with value": "--model=evil and more",
    "single dash": "-p",
    "command of the CLI": "/cost",
    "command that clears": "/clear",
    "command after spaces": "  /cost",
    "unknown command": "/no-such-command at all",
    "path that looks like a command": "/usr/bin/env is a program",
    "shell escape": "!touch made-by-the-prompt",
    "memory": "# remember this",
    "skill": "$imagegen please",
    "file of the system": "read @/etc/passwd for me",
    "file of the workdir": "what is in @secret.txt ?",
    "file at the start": "@secret.txt",
    "file at the end of a line": "look:\n@./secret.txt\n",
    "quoted file": '@"secret.txt" and @secret\\.txt',
    "folder": "@./ all of it",
    "empty lines around": "\n\nhello\n\n",
    "template": "{} {json} {file} {run_dir} $HOME `id` %s",
    "controls": "tab\there, bell\a, escape\x1b[31mred\x1b[0m",
    "not only ASCII": "é 漢字 🙂 \u2028 \u202e end",
}


def said_by_the_user(real: Real) -> list[str]:
    """What the model got from the user in the one request of this run, the CLI's own additions included, one entry a part."""
    (exchange,) = real.api.exchanges
    return [said.strip() for said in exchange.user_texts]


SMOKE = ("command of the CLI", "file of the system", "not only ASCII")


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.smoke if name in SMOKE else (), id=name) for name in INERT])
def test_prompt_is_nothing_but_text(real: Real, name: str) -> None:
    prompt = INERT[name]
    (real.workdir / "secret.txt").write_text(SECRET)
    real.api.script("", Reply(text="I got it"))
    assert real.ask(prompt)["output"] == "I got it"
    assert prompt.strip() in said_by_the_user(real)
    assert not real.api.mentions(SECRET)
    assert not real.api.mentions(Path("/etc/passwd").read_text().split("\n")[0])
    assert not (real.workdir / "made-by-the-prompt").exists()


def test_prompt_of_300_kb_arrives_whole(real: Real) -> None:
    prompt = "".join(f"line {number} é漢\n" for number in range(20_000)).strip()
    assert len(prompt.encode()) > 300_000
    real.api.script("", Reply(text="I got it"))
    assert real.ask(prompt)["output"] == "I got it"
    assert prompt in said_by_the_user(real)


@pytest.mark.parametrize("real", [pytest.param("claude", marks=pytest.mark.real_cli)], indirect=True)
def test_prompt_of_10_mb_reaches_a_process_that_is_started_for_it(real: Real) -> None:
    """Through a pipe, which holds far less."""
    prompt = " ".join(f"word{number:08}" for number in range(770_000))
    assert len(prompt) > 10_000_000
    real.api.script("", Reply(text="I got it"))
    assert real.ask(prompt, system_prompt="be brief")["output"] == "I got it"
    assert prompt in said_by_the_user(real)
