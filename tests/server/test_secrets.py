"""What an agent, which runs as the server's user, finds out of the server's secrets."""

from __future__ import annotations

import os
import secrets
import signal

import pytest

from tests.conftest import ServerFactory
from tests.parts.processes import alive, descendants, eventually
from tests.parts.server import Server

SHELL = {"command": ["sh"], "custom": {"output": "text"}}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_agent_finds_no_key_in_any_environment_and_the_keys_stay_in_force(server: ServerFactory, workers: int) -> None:
    key = secrets.token_hex(16)
    config = {"default_backend": "sh", "backends": {"sh": SHELL}, "server": {"workers": workers}}
    one = server(config, {"CLINVK_API_KEYS": f"a={key}"})
    one.client.headers["Authorization"] = f"Bearer {key}"

    def found() -> str:
        # The pattern does not match itself, where it stands among the words of this shell.
        return agent(
            one, f"grep -als '{key[:-1]}[{key[-1]}]' /proc/[0-9]*/environ; cat /proc/{one.pid}/environ | tr '\\0' '\\n' | grep ^CLINVK_A"
        )

    assert found() == ""
    one.signal(signal.SIGHUP)
    assert eventually(lambda: "configuration reloaded; its API keys: a" in one.log())
    for worker in one.workers():
        replace_worker(one, worker)
    assert eventually(lambda: len(one.workers()) == workers and one.is_up())
    assert found() == ""


def agent(one: Server, script: str) -> str:
    answer = one.client.post("/api/v1/prompt", {"backend": "sh", "prompt": f"{script}; true"})
    assert answer.status == 200, answer.body
    return str(answer.json["output"]).strip()


def replace_worker(one: Server, worker: int) -> None:
    """End a worker of the server, so that it starts another: with what the variables of its start say."""
    assert worker in descendants(one.pid)
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: not alive(worker))
