"""SIGHUP: keys and settings change while the server runs; what runs goes on, and a broken configuration changes nothing."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.native import events, text
from tests.parts.processes import eventually
from tests.parts.server import Server
from tests.parts.webhook_receiver import receiving, soon


def config_of(fake_cli: FakeCli, *keys: str, **server: Any) -> dict[str, Any]:
    return {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"api_keys": list(keys), **server}}


def hang_up(one: Server, config: Any, says: str) -> None:
    """Write the configuration, send SIGHUP to the server's parent process, and wait for a new line of its log that has ``says``."""
    (Path(one.home).parent / "config.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    before = len(one.log())
    one.signal(signal.SIGHUP)
    assert eventually(lambda: says in one.log()[before:]), one.log()[before:]


def status(one: Server, key: str) -> int:
    return one.client.get("/api/v1/backends", headers={"Authorization": f"Bearer {key}"}).status


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_changed_while_a_stream_goes_on(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path, workers: int) -> None:
    go = tmp_path / "go"
    one = server(config_of(fake_cli, "old=firstkey8f2c0d1e", workers=workers))
    one.client.headers["Authorization"] = "Bearer firstkey8f2c0d1e"
    with one.client.prompt_stream("claude", do(["say", "before "], ["wait_for", str(go)], ["say", "after"])) as stream:
        lines = stream.lines()
        head = [next(lines), next(lines)]
        hang_up(one, config_of(fake_cli, "new=secondkey9a1d0c2f", workers=workers), "keys: new")
        assert eventually(lambda: {status(one, "firstkey8f2c0d1e") for _ in range(6)} == {401})
        assert {status(one, "secondkey9a1d0c2f") for _ in range(6)} == {200}
        go.touch()
        found = events([*head, *lines])
    assert (text(found), found[-1]["type"]) == ("before after", "done")
    assert not {"firstkey8f2c0d1e", "secondkey9a1d0c2f"} & set(re.findall(r"\w+", one.log()))


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ("server: {prot: 1}", "prot"),
        ("server: [", "config.yaml"),
        ("default_backend: nobody", "nobody"),
        ("backends: {mine: {command: x, custom: {rules: 7}}}", "backends.mine"),
        ("server: {api_keys: ['sha256:123']}", "64 hexadecimal digits"),
        ("server: {cors_allowed_origins: ['*'], cors_allow_credentials: true}", "cors_allow_credentials"),
    ],
)
def test_a_broken_configuration_is_refused_and_the_old_one_stays(server: ServerFactory, fake_cli: FakeCli, broken: str, word: str) -> None:
    one = server(config_of(fake_cli, "old=first-0123456789"))
    hang_up(one, broken, "the new configuration is invalid; keeping the old one")
    assert word in one.log().split("keeping the old one", 1)[1]
    assert (status(one, "first-0123456789"), status(one, "other")) == (200, 401)
    hang_up(one, config_of(fake_cli, "new=second-0123456789"), "keys: new")
    assert eventually(lambda: status(one, "second-0123456789") == 200)


def test_what_needs_a_restart_is_named_and_the_rest_is_in_force(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(config_of(fake_cli, max_concurrent_runs=5))
    config = config_of(fake_cli, port=1, workers=3, max_concurrent_runs=1, max_queued_runs=0)
    hang_up(one, config, "only after a restart: server.workers")  # the port comes from the command line, which has not changed
    with one.client.prompt_stream("claude", do(["say", "x"], ["hang"])) as stream:
        next(stream.lines())
        assert eventually(lambda: one.client.prompt("claude", "y").status == 503)
        hang_up(one, config_of(fake_cli, max_concurrent_runs=2), "configuration reloaded")
        assert eventually(lambda: one.client.prompt("claude", "y").status == 200)


def test_a_worker_that_starts_later_has_the_new_keys(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = server(config_of(fake_cli, "old=first-0123456789"))
    hang_up(one, config_of(fake_cli, "new=second-0123456789"), "keys: new")
    assert eventually(lambda: status(one, "second-0123456789") == 200)
    for worker in one.workers():
        os.kill(worker, signal.SIGKILL)
    assert eventually(one.is_up)
    assert (status(one, "first-0123456789"), status(one, "second-0123456789")) == (401, 200)


@pytest.mark.parametrize("limit", ["rate limit", "wrong keys"])
def test_limits_go_on_counting(server: ServerFactory, fake_cli: FakeCli, limit: str) -> None:
    limits = {"rate_limit_enabled": limit == "rate limit", "rate_limit_rps": 0.001, "rate_limit_burst": 2}
    config = config_of(fake_cli, "a=first-0123456789", "b=second-0123456789", **limits)
    one = server(config)

    def ask(key: str) -> int:
        return one.client.ask("POST", "/api/v1/prompt", {"prompt": "x", "dry_run": True}, {"X-Api-Key": key}).status

    tried = ["first-0123456789", "second-0123456789"] if limit == "rate limit" else ["wrong"]
    first, refused = (200, 429) if limit == "rate limit" else (401, 429)
    assert [ask(key) for key in tried] == [first] * len(tried)
    hang_up(one, config, "configuration reloaded")
    assert [ask(key) for key in tried] == [first] * len(tried)
    hang_up(one, config, "configuration reloaded")
    assert [ask(key) for key in tried] == [refused] * len(tried)


def test_queued_and_running_work_survive_ten_hangups(server: ServerFactory, fake_cli: FakeCli, tmp_path: Path) -> None:
    go = tmp_path / "go"
    one = server(config_of(fake_cli, max_concurrent_runs=1))
    prompt = do(["say", "a"], ["wait_for", str(go)])
    with (
        one.client.prompt_stream("claude", prompt) as first,
        one.client.send("POST", "/api/v1/prompt", {"backend": "claude", "prompt": prompt}) as second,
    ):
        lines = first.lines()
        head = [next(lines)]
        for _ in range(10):
            hang_up(one, config_of(fake_cli, max_concurrent_runs=1), "configuration reloaded")
        go.touch()
        assert events([*head, *lines])[-1]["type"] == "done"
        answer = second.connection.getresponse()
        assert (answer.status, b'"output":"a"' in answer.read()) == (200, True)


def test_hosts_that_webhooks_may_reach_are_changed(server: ServerFactory, fake_cli: FakeCli) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    one = server(config_of(fake_cli))
    with receiving() as receiver:
        hook = {"url": f"http://127.0.0.1:{receiver.port}/", "secret": secret}
        body = {"prompt": do(["say", "x"]), "background": True, "webhook": hook}
        assert one.client.post("/api/v1/prompt", body).status == 400
        hang_up(one, {**config_of(fake_cli), "runs": {"webhook_allowed_hosts": ["127.0.0.1"]}}, "configuration reloaded")
        assert eventually(lambda: one.client.post("/api/v1/prompt", body).status == 202)
        assert soon(lambda: receiver.requests)
