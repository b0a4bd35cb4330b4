"""`clinvk serve` as a process: what it says at the start, for whom it is open, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from app.config.load import SettingsError, load_settings
from app.config.schema import ServerSettings
from app.server.serve import gunicorn_options, refuse_if_nobody_has_access, who_has_access
from services.access.key import Key, to_digest
from services.access.key_ring import KeyRing
from tests.parts.client import Client
from tests.parts.clis import FakeCli, do
from tests.parts.command import Command
from tests.parts.native import events, text
from tests.parts.processes import alive, children, eventually

ROOT = Path(__file__).parents[2]


class Started:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def says(self, pattern: str) -> re.Match[str]:
        assert eventually(lambda: re.search(pattern, self.log) or self.process.poll() is not None), self.log
        match = re.search(pattern, self.log)
        assert match, self.log
        return match

    @property
    def port(self) -> int:
        return int(self.says(r"listens on http://\S*?:(\d+)\n")[1])

    def status(self, path: str = "/api/v1/backends", **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def ends(self, number: int, within_s: float = 20.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)


@pytest.fixture
def start(tmp_path):
    @contextmanager
    def start(*args: str, program: tuple[str, ...] = ("-m", "app.cli", "serve", "--port", "0"), **env: str) -> Iterator[Started]:
        log = tmp_path / "log"
        base = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "CLINVK_BACKEND": "demo"}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *program, *args],
                cwd=ROOT,
                env=base | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        try:
            yield Started(process, log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    return start


def test_the_banner_says_where_for_whom_and_with_what(start):
    with start() as server:
        server.says(r"demo +found \(default\)\n")
        assert f"  docs      http://127.0.0.1:{server.port}/docs\n" in server.log
        assert "  access    no API key required (local connections only); " in server.log
        assert "CLINVK_BACKEND" in server.log
        assert re.search(r"codex +not available: 'codex' was not found on PATH; install it with", server.log)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_idle_server_ends_at_once_also_with_connections_kept_open(start, number):
    with start() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        assert server.ends(number) == 0
        connection.close()
        assert "Traceback" not in server.log


def test_ctrl_c_in_a_terminal_reaches_every_process_and_ends_cleanly(start):
    with start("--workers", "2") as server:
        assert server.status("/health") == 200
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.process.wait(5) == 0
        assert "Traceback" not in server.log


def test_beyond_loopback_a_key_is_made_that_all_workers_know(start):
    with start("--host", "0.0.0.0", "--workers", "2") as server:
        key = server.says(r"made for this run.*\n +(\S{40,})\n")[1]
        assert {server.status() for _ in range(6)} == {401}
        assert {server.status(Authorization=f"Bearer {key}") for _ in range(10)} == {200}


def test_beyond_loopback_no_key_is_made_where_the_store_has_one_and_without_any_the_server_is_open_to_nobody(start, tmp_path):
    clinvk = Command(tmp_path, "", {})
    key = clinvk("keys", "create", "ops", "--role", "admin").stdout.strip()
    with start("--host", "0.0.0.0") as server:
        assert eventually(lambda: server.status("/health") == 200)
        assert "  access    with an API key: ops\n" in server.log
        assert (server.status(), server.status(**{"X-Api-Key": key})) == (401, 200)
        assert clinvk("keys", "revoke", "ops").returncode == 0
        assert eventually(lambda: server.status(**{"X-Api-Key": key}) == 401)
        assert server.status() == 401


def test_a_configured_key_is_asked_for_and_not_shown(start):
    with start(CLINVK_API_KEYS="ci=top-secret-0123456789") as server:
        assert server.status() == 401
        assert server.status(**{"X-Api-Key": "top-secret-0123456789"}) == 200
        assert "access    with an API key: ci\n" in server.log
        assert "top-secret" not in server.log


def test_no_auth_says_that_it_is_open(start):
    with start("--host", "0.0.0.0", "--no-auth", CLINVK_API_KEY="unused") as server:
        assert server.status() == 200
        assert "open to EVERYONE who can reach this address, without a key (--no-auth)" in server.log


@pytest.mark.parametrize("sent", [b"GET /health HTTP/1.1\r\nHost: local", b"G"])
def test_a_request_whose_head_does_not_arrive_is_hung_up_on(start, sent):
    with (
        start(CLINVK_SERVER__READ_TIMEOUT_SECS="0.5") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as client,
    ):
        client.sendall(sent)
        assert client.recv(100) == b""


def test_a_connection_may_be_idle_longer_than_a_request_may_take_to_arrive(start):
    with (
        start(CLINVK_SERVER__READ_TIMEOUT_SECS="0.2", CLINVK_SERVER__IDLE_TIMEOUT_SECS="2") as server,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection,
    ):
        connection.connect()
        for _ in range(2):
            connection.sock.settimeout(0.6)
            with pytest.raises(TimeoutError):
                connection.sock.recv(1)
            connection.sock.settimeout(10)
            connection.request("GET", "/health")
            assert connection.getresponse().read()
        assert connection.sock.recv(1) == b""  # after 2 s


def test_pipelined_requests_are_all_answered(start):
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with start() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(request * 3 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        with client.makefile("rb") as answers:
            assert answers.read().count(b"HTTP/1.1 200") == 4


def test_what_is_no_http_is_one_line_in_the_servers_own_log(start):
    with start() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")
        assert '"logger": "clinvk.gunicorn"' in server.says(r".*Invalid request from ip=.*")[0]


def test_flask_run_finds_the_application(start):
    with start(program=("-m", "flask", "run", "--port", "0")) as server:
        port = server.says(r"Running on http://127\.0\.0\.1:(\d+)")[1]
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()


def test_flask_run_for_everyone_without_a_key_does_not_start(start):
    with start(program=("-m", "flask", "run", "--port", "0"), CLINVK_SERVER__HOST="0.0.0.0") as server:
        assert server.process.wait(20) != 0
        assert "there is no API key" in server.log


def test_flask_run_for_everyone_answers_to_this_machine_alone(start):
    with start(program=("-m", "flask", "run", "--host", "0.0.0.0", "--port", "0")) as server:
        port = server.says(r"Running on http://127\.0\.0\.1:(\d+)")[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; tells the address that the machine is reached by
            address = probe.getsockname()[0]
        if address.startswith("127."):
            pytest.skip("this machine has no other address")
        assert Client(f"http://{address}:{port}").get("/api/v1/backends").status == 403
        assert Client(f"http://127.0.0.1:{port}").get("/api/v1/backends").status == 200


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return str(found.getsockname()[1])


GUNICORN = ("-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "wsgi:app")


def test_gunicorn_runs_the_application_with_the_same_options(start):
    port = free_port()
    with start(program=GUNICORN, CLINVK_SERVER__PORT=port) as server:
        assert eventually(lambda: answers(port) or server.process.poll() is not None)
        assert answers(port), server.log
        assert server.ends(signal.SIGTERM) == 0
        assert "Traceback" not in server.log


def answers(port: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=1):
            return True
    except OSError:
        return False


def test_a_worker_that_has_answered_enough_is_replaced_and_loses_nothing(start, tmp_path):
    """gunicorn's --max-requests, in the middle of a stream."""
    fake_cli = FakeCli(tmp_path / "reports")
    config, go, port = tmp_path / "config.yaml", tmp_path / "go", free_port()
    config.write_text(
        yaml.safe_dump({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": {"port": int(port)}})
    )
    program = (*GUNICORN, "--max-requests", "5")
    with start(program=program, CLINVK_CONFIG=str(config), CLINVK_BACKEND="claude") as server:
        client = Client(f"http://127.0.0.1:{port}")
        assert eventually(lambda: (answers(port) and client.get("/health")) or server.process.poll() is not None), server.log
        with client.prompt_stream("claude", do(["say", "before "], ["wait_for", str(go)], ["say", "after"])) as stream:
            lines = stream.lines()
            head = [next(lines)]
            workers = set(children(server.process.pid))
            while len(server.log.split('"path": "/health"')) < 5:
                client.get("/health")
            go.touch()  # gunicorn starts the next worker when this one has left
            found = events([*head, *lines])
        assert (text(found), found[-1]["type"]) == ("before after", "done")
        assert eventually(lambda: not workers & set(children(server.process.pid)))
        assert client.prompt("claude", "hello").json["output"] == "You said: hello"
        assert server.ends(signal.SIGTERM) == 0
        assert eventually(lambda: not any(alive(report["pid"]) for report in fake_cli.reports()))


def test_gunicorn_keeps_its_configuration_when_the_new_one_is_broken(start, tmp_path):
    config, port = tmp_path / "config.yaml", free_port()
    config.write_text("server: {api_keys: [old=first-0123456789abcdef]}")
    with start(program=GUNICORN, CLINVK_CONFIG=str(config), CLINVK_SERVER__PORT=port) as server:
        client = Client(f"http://127.0.0.1:{port}")
        assert eventually(lambda: (answers(port) and client.get("/health")) or server.process.poll() is not None), server.log

        def status(key):
            return client.get("/api/v1/backends", headers={"X-Api-Key": f"{key}-0123456789abcdef"}).status

        config.write_text("server: {prot: 1}")
        server.process.send_signal(signal.SIGHUP)
        server.says("the new configuration is invalid; keeping the old one.*prot")
        assert status("first") == 200
        config.write_text("server: {api_keys: [new=second-0123456789abcdef]}")
        server.process.send_signal(signal.SIGHUP)
        assert eventually(lambda: (status("first"), status("second")) == (401, 200))
        assert server.ends(signal.SIGTERM) == 0


def test_gunicorn_does_not_open_the_server_to_everyone(start):
    with start(program=GUNICORN, CLINVK_SERVER__HOST="0.0.0.0", CLINVK_SERVER__PORT="0") as server:
        assert server.process.wait(20) != 0
        assert "there is no API key" in server.log


def test_the_options_follow_the_settings():
    options = gunicorn_options(ServerSettings(host="::1", port=9, shutdown_grace_secs=1.5, idle_timeout_secs=0.2), lambda: ())
    assert options["bind"] == "[::1]:9"
    assert options["graceful_timeout"] == 12
    assert options["keepalive"] == 1
    assert options["forwarded_allow_ips"] == ""


@pytest.mark.parametrize(
    ("expiries", "is_local", "is_open", "words"),
    [
        ({}, True, False, "no API key required (local connections only)"),
        ({"a": None, "b": None}, True, False, "with an API key: a, b"),
        ({"a": None, "old": 1}, False, False, "with an API key: a"),
        ({"old": 1}, True, False, "nobody: every API key has expired (old)"),
        ({f"k{n:02}": None for n in range(14)}, True, False, "k11 and 2 more (clinvk keys list)"),
        ({}, False, True, "EVERYONE"),
        ({"a": None}, True, True, "--no-auth"),
    ],
)
def test_who_may_call(expiries, is_local, is_open, words):
    keys = KeyRing(Key(name=name, digests=(to_digest(name),), expires_at=expiry) for name, expiry in expiries.items())
    assert words in who_has_access(keys, is_local=is_local, is_open=is_open)


def test_other_servers_refuse_to_be_open():
    with pytest.raises(SettingsError, match="there is no API key"):
        refuse_if_nobody_has_access(load_settings(environ={"HOME": "/nowhere", "CLINVK_SERVER__HOST": "0.0.0.0"}), [])
    refuse_if_nobody_has_access(load_settings(environ={"HOME": "/nowhere", "CLINVK_SERVER__HOST": "0.0.0.0"}), ["ci"])
    refuse_if_nobody_has_access(load_settings(environ={"HOME": "/nowhere"}), [])
