"""The command line: what it accepts, what it says, and its exit codes. Starts no server."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import pytest

from app.cli.client.remote import Remote
from app.cli.command import run
from app.config.schema import ServerSettings, Settings
from app.security.api_keys import load_keys
from services.clis.claude.spec import SPEC as CLAUDE


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, and no CLI on the path."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "REQUIRE_REAL_CLIS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    monkeypatch.setenv("CLINVK_SERVER__PORT", "0")
    (tmp_path / "bin").mkdir()
    return tmp_path


def install(home, name, script):
    program = home / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_no_command_prints_the_help(capsys):
    assert run([]) == 2
    assert "serve" in capsys.readouterr().out


def test_ctrl_c_while_the_command_is_imported_leaves_no_traceback():
    interrupts = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "app.cli.command":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
from app.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", interrupts], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        run(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("clinvk ")


@pytest.mark.parametrize("word", ["--version", "version"])
def test_the_version_is_printed_without_the_imports_of_the_server(word):
    program = "import sys; from app.cli import main; main(); sys.exit(' '.join({'gevent', 'flask', 'yaml'} & sys.modules.keys()) or 0)"
    done = subprocess.run([sys.executable, "-c", program, word], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("clinvk ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("serve --prot 1", "clinvk serve: error: unrecognized arguments: --prot 1; did you mean '--port'?"),
        ("hello", "clinvk: 'hello' is not a command; did you mean: clinvk prompt hello"),
        ("sevre --port 1", "clinvk: 'sevre' is not a command; did you mean: clinvk serve --port 1"),
        ("-c hi", "clinvk: '-c' is not a command; did you mean: clinvk prompt -c hi"),
        ("resume --last", "'resume' is not a command; use clinvk sessions resume ID"),
        ("config show", "'config' is not a command; use clinvk doctor"),
        ("mcp", "'mcp' is not a command; there is no MCP server"),
        ("sessions clean", "session.retention_days deletes old sessions"),
        ("sessions lst", "did you mean 'list'?"),
        ("sessions", "required: {list,show,resume,delete}"),
        ("compare --all-backends x", "unrecognized arguments: --all-backends; use -b claude,codex,gemini"),
        ("prompt -o json x", "unrecognized arguments: -o x; use --json or --ndjson"),
    ],
)
def test_a_wrong_command_line_says_what_was_probably_meant(capsys, line, expected):
    with pytest.raises(SystemExit) as ended:
        run(line.split())
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


def test_a_key_for_the_configuration_is_printed_once_with_its_line_for_the_configuration(capsys):
    assert run(["keys", "entry", "anna"]) == 0
    out, err = capsys.readouterr()
    entry = err.splitlines()[-1].strip().removeprefix("- ")
    found = load_keys(Settings(server=ServerSettings(api_keys=[entry])), {}).find(out.strip())
    assert found is not None
    assert found.name == "anna"
    assert out.strip() not in err


@pytest.mark.parametrize(
    ("args", "subject", "problem"),
    [
        (["--port", "x"], "command line", "server.port: expected a whole number from 0 to 65535, got the text 'x'"),
        (["--config", "/no/such.yaml"], "configuration", "/no/such.yaml: cannot be read: No such file or directory"),
        (
            ["--backend", "cluade"],
            "command line",
            "default_backend: unknown backend 'cluade'; did you mean 'claude'?"
            " Another CLI is declared under `backends`, see docs/backends.md",
        ),
    ],
)
def test_a_problem_with_the_settings_is_told_and_ends_with_2(capsys, args, subject, problem):
    assert run(["serve", *args]) == 2
    assert capsys.readouterr().err == f"clinvk: the {subject} cannot be used:\n  {problem}\n"


def test_a_port_in_use_is_told_and_ends_with_1(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert run(["serve", "--port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(f"clinvk: port {port} on 127.0.0.1 is in use; ")


def test_an_address_of_another_machine_is_told(capsys):
    assert run(["serve", "--host", "192.0.2.1"]) == 1
    assert capsys.readouterr().err.startswith("clinvk: 192.0.2.1 is not an address of this machine")


def test_doctor_is_content_with_a_default_backend_that_is_there(home, capsys):
    install(home, "claude", "echo 9.8.7")
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"9.8.7, probably not logged in, approval_mode default, sandbox_mode default, {home}/bin/claude" in text
    assert "npm install -g @openai/codex" in text
    assert "The default backend, claude, can be used." in text
    assert "kept ready     up to 3 of claude\n" in text


@pytest.mark.parametrize(
    ("version", "warning"),
    [
        ("1.0.0", "1.0.0 is older than {oldest}, the oldest version that is supported"),
        ("2.1.213", "the end of an answer can be lost when it is read slowly (fixed in 2.1.214)"),
        ("9.8.7", "9.8.7 is newer than {newest}, the newest version that was tested"),
    ],
)
def test_doctor_names_what_speaks_against_a_version(home, capsys, caplog, version, warning):
    install(home, "claude", f"echo {version}")
    assert run(["doctor"]) == 0
    warning = warning.format(oldest=CLAUDE.versions.oldest, newest=CLAUDE.versions.newest)
    assert warning in capsys.readouterr().out
    assert warning not in caplog.text, "it is said in the report, not in the log"
    run(["doctor", "--json"])
    assert warning in json.loads(capsys.readouterr().out)["backends"][0]["version_warnings"]


def test_doctor_tells_which_backends_have_no_processes_that_wait(home, capsys, monkeypatch):
    install(home, "claude", "echo 9.8.7")
    install(home, "codex", "echo 9.8.7")
    monkeypatch.setenv("CLINVK_BACKENDS__CLAUDE__WARM__MAX", "0")
    monkeypatch.setenv("CLINVK_BACKENDS__CODEX__WARM__MIN_FREE_MB", str(1 << 30))
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "kept ready     up to 2 of codex; none at present, " in text
    assert "codex needs 1073741824 MB (warm.min_free_mb)" in text


def test_doctor_says_how_to_get_what_is_missing(capsys):
    assert run(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "'claude' was not found on PATH; install it with `npm install -g @anthropic-ai/claude-code`" in text
    assert "The default backend, claude, cannot be used." in text


def test_doctor_knows_the_demo_needs_nothing():
    assert run(["doctor", "--backend", "demo"]) == 0


def test_doctor_for_programs(home, capsys):
    install(home, "codex", "echo codex-cli 1.2.3")
    assert run(["doctor", "--json", "--backend", "codex"]) == 0
    report = json.loads(capsys.readouterr().out)
    backends = {backend["name"]: backend for backend in report["backends"]}
    assert report["is_usable"] is True
    assert backends["codex"]["version"] == "1.2.3"
    assert backends["codex"]["logged_in"] is False
    assert "codex login" in backends["codex"]["hint"]
    assert backends["claude"]["available"] is False
    assert {"clinvk", "access", "configuration", "home", "address", "kept ready"} == {finding["name"] for finding in report["findings"]}


def test_doctor_tells_the_problems_of_the_configuration_and_goes_on(home, capsys, monkeypatch):
    install(home, "claude", "echo 9.8.7")
    monkeypatch.setenv("CLINVK_SERVER__WORKERS", "0")
    monkeypatch.setenv("CLINVK_HOME", "/dev/null/x")
    assert run(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "CLINVK_SERVER__WORKERS: expected a whole number, at least 1" in text
    assert "9.8.7" in text
    assert "/dev/null/x cannot be written" in text


def test_doctor_recognizes_a_server_of_ours(capsys, monkeypatch):
    monkeypatch.setattr(Remote, "is_up", lambda self: True)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("CLINVK_SERVER__PORT", str(port))
        run(["doctor"])
    assert f"ok   address        a clinvk server runs at http://127.0.0.1:{port}\n" in capsys.readouterr().out


def test_doctor_asks_the_database_and_redis(capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        monkeypatch.setenv("CLINVK_SESSION__DATABASE_URL", f"postgresql://user:hush@127.0.0.1:{port}/clinvk")
        monkeypatch.setenv("CLINVK_SERVER__RATE_LIMIT_ENABLED", "true")
        monkeypatch.setenv("CLINVK_SERVER__RATE_LIMIT_STORAGE", f"redis://127.0.0.1:{port}/0")
        monkeypatch.setenv("CLINVK_SERVER__ALLOWED_WORKDIR_PREFIXES", "/no/such/folder")
        run(["doctor"])
    text = capsys.readouterr().out
    assert "!!   database       connection failed" in text
    assert "!!   redis          127.0.0.1 does not answer" in text
    assert "!!   workdir        /no/such/folder (server.allowed_workdir_prefixes) is not an existing folder" in text
    assert "hush" not in text


def test_doctor_sees_a_port_in_use_and_a_home_that_cannot_be_written(capsys, monkeypatch):
    monkeypatch.setattr("app.cli.client.remote.CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as other:  # it accepts connections and answers none
        monkeypatch.setenv("CLINVK_SERVER__PORT", str(other.getsockname()[1]))
        monkeypatch.setenv("CLINVK_HOME", "/dev/null/x")
        run(["doctor"])
    text = capsys.readouterr().out
    assert "is in use" in text
    assert "/dev/null/x cannot be written" in text
