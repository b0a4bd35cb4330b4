"""Stored responses outlive their server, and their webhooks reach their receiver."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import openai
import pytest

from tests.clients.openai.test_responses import ask
from tests.clients.openai.test_stored_responses import Gate, events_of, polled, running
from tests.parts.clis import FakeCli, do
from tests.parts.processes import eventually
from tests.parts.server import Server
from tests.parts.webhook_receiver import Received, receiving, soon

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_" + "A" * 32


class Home:
    """Servers one after the other, with the same home folder."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder
        self._settings = settings
        self.cli = FakeCli(folder / "reports")
        self.servers: list[Server] = []
        self.clients: list[openai.OpenAI] = []

    def start(self) -> openai.OpenAI:
        folder = self._folder / str(len(self.servers))
        folder.mkdir()
        env = {"CLINVK_HOME": str(self.servers[0].clinvk_home)} if self.servers else {}
        backends = {"claude": self.cli.backend(env=self.cli.keeping)}
        self.servers.append(Server(folder, {"default_backend": "demo", "backends": backends, **self._settings}, env))
        client = openai.OpenAI(base_url=f"{self.servers[-1].url}/openai/v1", api_key="any", max_retries=0)
        self.clients.append(client)
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for server in self.servers:
            server.kill_everything()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    opened: list[Home] = []

    def open_home(**settings: Any) -> Home:
        opened.append(Home(tmp_path, settings))
        return opened[-1]

    yield open_home
    for one in opened:
        one.close()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def test_responses_are_there_after_a_restart_and_can_be_continued(home: Callable[..., Home]) -> None:
    one = home()
    client = one.start()
    foreground, background = ask(client, "the foreground"), polled(client, ask(client, "the background", background=True).id)
    events = events_of(client, background.id)
    one.servers[-1].stop()
    client = one.start()
    assert [client.responses.retrieve(response.id) for response in (foreground, background)] == [foreground, background]
    assert events_of(client, background.id) == events
    for response in (foreground, background):
        assert ask(client, "go on", previous_response_id=response.id).status == "completed"


def test_a_killed_server_leaves_failed_responses_and_takes_what_waits(home: Callable[..., Home], gate: Gate) -> None:
    one = home(server={"max_concurrent_runs": 2})
    client = one.start()
    foreground = ask(client, gate.prompt("in the foreground"), stream=True)
    begun = next(iter(foreground)).response
    with running(client, gate, "in the background", metadata={"a": "b"}) as lost:
        waiting = ask(client, do(["say", "later"]), background=True)
        unwanted = client.responses.cancel(ask(client, "never", background=True).id)
        assert (unwanted.status, unwanted.output, unwanted.error) == ("cancelled", [], None)
        assert [event.type for event in events_of(client, unwanted.id)] == ["response.created", "response.queued", "response.failed"]
        assert client.responses.retrieve(waiting.id).status == "queued"
        one.servers[-1].signal(signal.SIGKILL)
        one.servers[-1].kill_everything()
        foreground.close()
    client = one.start()
    for id in (begun.id, lost.id):
        assert eventually(lambda id=id: client.responses.retrieve(id).status == "failed")
        with pytest.raises(openai.APIError) as raised:
            events_of(client, id)
        assert raised.value.code == "worker_lost"
    failed = client.responses.retrieve(lost.id)
    assert failed.error is not None
    assert (failed.error.code, failed.id, failed.metadata, failed.background) == ("server_error", lost.id, {"a": "b"}, True)
    final = polled(client, waiting.id)
    assert (final.status, final.output_text) == ("completed", "later")
    assert len(one.cli.reports()) == 3


def test_a_stopped_server_fails_what_runs(home: Callable[..., Home], gate: Gate) -> None:
    one = home(server={"shutdown_grace_secs": 0.1})
    client = one.start()
    with running(client, gate, "stop me") as response:
        one.servers[-1].stop()
    failed = one.start().responses.retrieve(response.id)
    assert (failed.status, failed.output_text) == ("failed", "one ")
    assert failed.error is not None
    assert "stopping" in failed.error.message


def test_a_background_response_has_the_time_limit_of_background_runs(home: Callable[..., Home]) -> None:
    client = home(server={"request_timeout_secs": 0.2}).start()
    response = polled(client, ask(client, do(["wait", 0.5], ["say", "late"]), background=True).id)
    assert (response.status, response.output_text) == ("completed", "late")


def unwrapped(received: Received, secret: str) -> Any:
    return openai.OpenAI(api_key="any").webhooks.unwrap(received.body, dict(received.headers.items()), secret=secret)


def test_the_sdk_unwraps_the_webhooks_of_a_response(home: Callable[..., Home], gate: Gate) -> None:
    with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}"
        configured = [{"url": f"{url}/all"}, {"url": f"{url}/failed", "secret": OTHER_SECRET, "events": ["response.failed"]}]
        one = home(runs={"webhook_secret": SECRET, "webhook_allowed_hosts": ["127.0.0.1"], "webhooks": configured})
        work = gevent.get_hub().threadpool.apply

        def sent(count: int) -> list[tuple[str, str, str]]:
            """(path, type, response id) of the first ``count`` webhooks, sorted."""
            assert soon(lambda: len(receiver.requests) >= count)
            found = []
            for received in receiver.requests[:count]:
                path = received.line.split()[1]
                event = unwrapped(received, OTHER_SECRET if path in ("/failed", "/own") else SECRET)
                found.append((path, event.type, event.data.id))
            receiver.requests.clear()
            return sorted(found)

        client = work(one.start)
        completed = work(lambda: ask(client, "hello", background=True).id)
        assert sent(1) == [("/all", "response.completed", completed)]
        failed = work(lambda: ask(client, do(["fail", "it broke", 500]), background=True).id)
        assert sent(2) == [("/all", "response.failed", failed), ("/failed", "response.failed", failed)]
        incomplete = work(lambda: ask(client, "[[demo tokens=50 delay_ms=0]]", "demo", max_output_tokens=3, background=True).id)
        assert sent(1) == [("/all", "response.incomplete", incomplete)]
        own = {"url": f"{url}/own", "secret": OTHER_SECRET}
        hanging = work(lambda: ask(client, do(["hang"]), background=True, extra_body={"webhook": own}).id)
        work(lambda: client.responses.cancel(hanging))
        assert sent(1) == [("/own", "response.cancelled", hanging)]
        work(lambda: ask(client, "in the foreground"))
        assert receiver.requests == []
