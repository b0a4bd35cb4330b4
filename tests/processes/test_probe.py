"""Whether a CLI is there, and that looking never waits for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from services.clis import probe
from services.clis.probe import Prober, ask_version, look
from services.clis.session_files import SessionFiles
from services.clis.spec import BackendSpec
from services.clis.versions import SupportedVersions
from tests.parts.processes import alive, eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install(tmp_path):
    """Writes a program that is a shell script; it logs each of its starts in `starts`."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(script, name="cli"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho start >>{tmp_path}/starts\n{script}\n")
        program.chmod(0o755)
        return program

    return install


@pytest.fixture
def environ(tmp_path):
    return {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path / "home")}


def spec(**more):
    return BackendSpec(**{"name": "cli", "command": ("cli",), "decoder": lambda: None, "install_hint": "get it there", **more})


def test_a_program_on_the_path_is_available(install, environ):
    path = str(install("echo"))
    found = look(spec(), environ)
    assert (found.available, found.path, found.reason) == (True, path, None)


def test_a_missing_program_says_how_to_get_it(environ):
    found = look(spec(), environ)
    assert (found.available, found.reason) == (False, "'cli' was not found on PATH; get it there")
    assert look(spec(command=("/no/cli",)), environ).reason == "'/no/cli' was not found; get it there"


def test_a_backend_that_is_switched_off_is_not_available(install, environ):
    install("echo")
    assert look(spec(enabled=False), environ).reason == "switched off in the configuration"


def test_the_backends_own_path_counts(install, environ):
    install("echo")
    assert not look(spec(env={"PATH": "/nowhere"}), environ).available


@pytest.mark.parametrize(
    ("credentials", "variables", "logged_in"),
    [
        ((), {}, None),
        (("CLI_KEY", "~/.cli/auth.json"), {}, False),
        (("CLI_KEY",), {"CLI_KEY": "x"}, True),
        (("OTHER_KEY",), {"OTHER_KEY": "not passed to the CLI"}, False),
    ],
)
def test_a_log_in_shows_in_the_variables_that_the_cli_gets(install, environ, credentials, variables, logged_in):
    install("echo")
    assert look(spec(credentials=credentials, vendor_env=("CLI_*",)), environ | variables).logged_in is logged_in


def test_a_log_in_shows_in_files(install, environ, tmp_path):
    install("echo")
    (tmp_path / "home" / ".cli").mkdir(parents=True)
    (tmp_path / "home" / ".cli" / "auth.json").touch()
    assert look(spec(credentials=("~/.cli/auth.json",)), environ).logged_in is True


def test_a_log_in_is_looked_for_where_the_account_keeps_it(install, environ, tmp_path):
    install("echo")
    (tmp_path / "home" / ".cli").mkdir(parents=True)
    (tmp_path / "home" / ".cli" / "auth.json").touch()
    files = SessionFiles(variable="CLI_HOME", folder=".cli", transcripts=())
    account = spec(credentials=("~/.cli/auth.json",), session_files=files, env={"CLI_HOME": str(tmp_path / "account")})
    assert look(account, environ).logged_in is False
    (tmp_path / "account").mkdir()
    (tmp_path / "account" / "auth.json").touch()
    assert look(account, environ).logged_in is True


@pytest.mark.parametrize(
    ("script", "version"),
    [
        ("echo '2.1.197 (Claude Code)'", "2.1.197"),
        ("echo codex-cli 0.169.0", "0.169.0"),
        ("echo v1.2.3-beta.1+5 >&2", "1.2.3-beta.1+5"),
        ("echo no numbers", None),
        ("echo 1.2.3; exit 1", None),
    ],
)
def test_the_version_is_found_in_what_the_cli_says(install, environ, script, version):
    assert ask_version(spec(), str(install(script)), environ).version == version


def test_the_version_is_asked_with_the_clis_own_environment(install, environ):
    path = install('test -z "$CLINVK_API_KEY$SECRET" && test "$OWN" = 1 && test "$PWD" = / && test "$*" = "first --version" && echo 1.2')
    answer = ask_version(spec(command=("cli", "first"), env={"OWN": "1"}), str(path), environ | {"CLINVK_API_KEY": "x", "SECRET": "x"})
    assert answer.version == "1.2"


def test_a_cli_that_hangs_is_ended_with_what_it_started(install, environ, tmp_path):
    path = install(f"sleep 60 & echo $! >{tmp_path}/child; wait")
    assert ask_version(spec(), str(path), environ, timeout_s=0.5).version is None
    child = int((tmp_path / "child").read_text())
    assert eventually(lambda: not alive(child))


def test_a_program_without_its_interpreter_is_not_available(install, environ):
    program = install("")
    program.write_text("#!/usr/bin/env no-such-node\n")
    (found,) = Prober(environ).with_versions([spec()])
    assert found.available is False
    assert "cannot be started" in found.reason
    assert "no-such-node" in found.reason


def test_a_prober_looks_at_once_and_learns_the_version_later(install, environ):
    install("sleep 0.3; echo 1.2.3")
    prober = Prober(environ)
    start = monotonic()
    first = prober.availability(spec())
    assert monotonic() - start < 0.25
    assert (first.available, first.version) == (True, None)
    one = spec()
    assert eventually(lambda: prober.availability(one).version == "1.2.3")


def test_a_version_is_asked_once_until_the_program_changes(install, environ, tmp_path, monkeypatch):
    program = install("echo 1.2.3")
    prober, one = Prober(environ), spec()
    for _ in range(3):
        assert prober.with_versions([one])[0].version == "1.2.3"
    assert (tmp_path / "starts").read_text() == "start\n"
    monkeypatch.setattr(probe, "FOUND_TTL_S", 0.0)
    program.write_text("#!/bin/sh\necho 1.2.40\n")
    assert prober.with_versions([one])[0].version == "1.2.40"


def test_a_cli_without_a_version_command_is_not_started(install, environ, tmp_path):
    install("echo 1.2.3")
    (found,) = Prober(environ).with_versions([spec(version_args=())])
    assert (found.available, found.version) == (True, None)
    assert not (tmp_path / "starts").exists()


def test_what_is_installed_later_is_found(install, environ, monkeypatch):
    monkeypatch.setattr(probe, "MISSING_TTL_S", 0.0)
    prober, one = Prober(environ), spec()
    assert not prober.availability(one).available
    install("echo 1.2.3")
    assert prober.availability(one).available


def test_versions_are_asked_at_the_same_time(install, environ):
    specs = [replace(spec(), name=name, command=(name,)) for name in ("a", "b", "c", "d")]
    for one in specs:
        install("sleep 0.4; echo 1.0", one.name)
    start = monotonic()
    assert [found.version for found in Prober(environ).with_versions(specs)] == ["1.0"] * 4
    assert monotonic() - start < 1.4


def test_a_program_that_ends_takes_the_question_with_it(install, environ, tmp_path):
    path = install(f"echo $$ >{tmp_path}/asked; exec sleep 60")
    program = """
import os, sys, time
from services.clis.probe import Prober
from services.clis.spec import BackendSpec
Prober(os.environ).availability(BackendSpec(name="cli", command=(sys.argv[1],), decoder=lambda: None))
while not (os.path.exists(sys.argv[2]) and open(sys.argv[2]).read().strip()):
    time.sleep(0.01)
"""
    subprocess.run(
        [sys.executable, "-c", program, str(path), str(tmp_path / "asked")], env=environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=30
    )
    assert eventually(lambda: not alive(int((tmp_path / "asked").read_text())))


def test_a_version_that_was_not_tested_is_reported_once(install, environ):
    install("echo 2.0.0")
    reports = []
    prober, one = Prober(environ, report=reports.append), spec(versions=SupportedVersions(oldest="1.0", newest="1.5"))
    warning = "2.0.0 is newer than 1.5, the newest version that was tested"
    for _ in range(3):
        (found,) = prober.with_versions([one])
        assert (found.available, found.version_warnings) == (True, (warning,))
    assert reports == [f"cli: {warning}"]
