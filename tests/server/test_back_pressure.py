"""Memory stays bounded, and other callers are served, whatever a client does not read and a CLI writes.

``IDLE_STREAMS=1000 pytest tests/server/test_back_pressure.py -k idle`` is the long form of the last one.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event, Thread
from typing import Any

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.native import events
from tests.parts.processes import command_line, eventually, fd_limit_with, marked, open_fds, rss_bytes
from tests.parts.server import Server

MIB = 1 << 20
IDLE_STREAMS = int(os.environ.get("IDLE_STREAMS", "50"))
SLEEPER = """printf '{"type":"system","subtype":"init","session_id":"x","model":"m"}\\n'; exec sleep 3600"""


@contextmanager
def growth(one: Server) -> Iterator[list[int]]:
    """The largest growth of the worker's memory meanwhile, in bytes, as the one entry of a list that is there at the end."""
    (worker,) = one.workers()
    start, most, done = rss_bytes(worker), [0], Event()

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], rss_bytes(worker) - start)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()


def body(prompt: str) -> dict[str, Any]:
    return {"backend": "claude", "prompt": prompt, "output_format": "stream-json"}


def start(server: ServerFactory, fake_cli: FakeCli, **settings: Any) -> Server:
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": settings})
    assert one.client.prompt("claude", "warm up").status == 200
    return one


def test_client_that_never_reads_is_left_after_the_write_timeout(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, write_timeout_secs=2, max_concurrent_runs=2)
    with growth(one) as most, one.client.send("POST", "/api/v1/prompt", body(do(["flood", 60]))):
        fake_cli.wait_for(2)
        assert one.client.prompt("claude", "me too").json["output"] == "You said: me too"
        assert eventually(lambda: not one.runs())
    assert most[0] < 24 * MIB
    assert one.client.prompt("claude", "me too").status == 200


def test_client_that_reads_slowly_gets_all_of_it_and_holds_the_cli_up_not_the_server(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    with growth(one) as most, one.client.prompt_stream("claude", do(["flood", 8], ["exit", 0])) as stream:
        said = 0
        for arrival in stream.lines():
            event = arrival.json
            said += len(event["content"]) if event["type"] == "message" and event["is_partial"] else 0
            time.sleep(0.002)  # a slow reader, not a wait for something
    assert said == 8 * MIB
    assert most[0] < 48 * MIB  # what was said is kept until the message ends, in case the CLI says it again


def test_cli_that_writes_500_mb_is_stopped_at_the_limit(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, max_output_bytes=8 * MIB)
    with growth(one) as most:
        answer = one.client.prompt("claude", do(["flood", 500]))
        with one.client.prompt_stream("claude", do(["flood", 500])) as stream:
            last = events(stream.lines())[-1]
    assert "max_output_bytes" in answer.json["error"]
    assert last["type"] == "error"
    assert "max_output_bytes" in str(last["content"])
    assert most[0] < 80 * MIB
    assert eventually(lambda: not one.runs())


def test_line_of_50_mb_is_cut_short_at_the_limit(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli, line_limit_bytes=4 * MIB)
    with growth(one) as most:
        answer = one.client.prompt("claude", do(["long_line", 50]))
    assert "line_limit_bytes" in answer.json["error"]
    assert most[0] < 24 * MIB


def test_flood_of_stderr_costs_no_memory(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    with growth(one) as most:
        answer = one.client.prompt("claude", do(["stderr_flood", 200], ["say", "done"]))
    assert answer.json["output"] == "done"
    assert most[0] < 8 * MIB


def test_prompt_at_the_body_limit_arrives_whole_and_a_byte_more_is_refused(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    frame = len(json.dumps({"backend": "claude", "prompt": ""}))
    prompt = "p" * (10 * MIB - frame)
    with growth(one) as most:
        answer = one.client.post("/api/v1/prompt", {"backend": "claude", "prompt": prompt})
    assert (answer.status, answer.json["output"] == f"You said: {prompt}") == (200, True)
    assert most[0] < 200 * MIB
    refused = one.client.post("/api/v1/prompt", {"backend": "claude", "prompt": prompt + "p"})
    assert (refused.status, refused.json["error"]["code"]) == (413, "request_too_large")
    assert "max_request_body_bytes" in refused.json["error"]["message"]


def test_without_descriptors_runs_are_refused_with_the_reason_until_there_are_some(server: ServerFactory, fake_cli: FakeCli) -> None:
    one = start(server, fake_cli)
    (worker,) = one.workers()
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    assert eventually(lambda: not any(command_line(pid).endswith("--version") for pid in marked(one.mark)))
    # One for the connection that asks, and one too few for its run; those that are open stay open.
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (fd_limit_with(worker, 2), before[1]))
    answer = one.client.prompt("claude", "hello")
    resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
    assert (answer.status, answer.json["error"]["code"]) == (503, "backend_unavailable")
    assert "Too many open files" in answer.json["error"]["message"]
    assert answer.headers["Retry-After"]
    assert one.client.prompt("claude", "hello").status == 200


def test_idle_streams_cost_little_and_leave_nothing(server: ServerFactory, fake_cli: FakeCli) -> None:
    sleeper = {"command": ["sh", "-c", SLEEPER], "env": {}}
    settings = {"max_concurrent_runs": IDLE_STREAMS + 1, "keepalive_secs": 60, "request_timeout_secs": 900, "idle_output_timeout_secs": 900}
    one = server({"default_backend": "demo", "backends": {"claude": sleeper}, "server": settings})
    assert one.client.prompt("demo", "warm up").status == 200
    (worker,) = one.workers()
    fds = open_fds(worker)
    with ExitStack() as streams, growth(one) as most:
        for _ in range(IDLE_STREAMS):
            stream = streams.enter_context(one.client.prompt_stream("claude", "sleep"))
            assert next(stream.lines()).json["type"] == "init"
        started_at = time.monotonic()
        assert one.client.prompt("demo", "me too").status == 200
        assert time.monotonic() - started_at < 10
    print(f"{IDLE_STREAMS} idle streams: {most[0] / IDLE_STREAMS / 1024:.0f} KiB of the worker each")
    assert most[0] < 8 * MIB + IDLE_STREAMS * 100_000
    assert eventually(lambda: not one.runs(), 60)
    assert eventually(lambda: open_fds(worker) <= fds + 4, 20)
