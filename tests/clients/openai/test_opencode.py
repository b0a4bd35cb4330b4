"""opencode as a client: its binary alone, installed by npm into a folder of its own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from app.cli.command import run
from tests.clients.openai.conftest import House
from tests.parts.clis import NO_WAY_OUT, do

VERSION = "1.18.33"
BINARIES = {("Linux", "x86_64"): "opencode-linux-x64-baseline", ("Linux", "aarch64"): "opencode-linux-arm64"}
"""Each package holds the program for one kind of machine. `opencode-ai` installs two of them and copies one in a script."""

INSTALL_S, RUN_S = 300, 90
QUIET = {
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}


@pytest.fixture(scope="session")
def opencode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.environ.get("REQUIRE_CLIENTS") != "1":
        pytest.skip("opencode would be installed into a folder of its own: set REQUIRE_CLIENTS=1")
    package = BINARIES.get((platform.system(), platform.machine()))
    if package is None:
        pytest.skip(f"no package of opencode is listed here for {platform.system()} on {platform.machine()}")
    npm = shutil.which("npm")
    assert npm, "opencode needs npm"
    folder = tmp_path_factory.mktemp("opencode")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix", folder]
    command = [npm, "install", *options, f"{package}@{VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "node_modules" / package / "bin" / "opencode"


def test_opencode_is_answered(opencode: Path, house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["connect", "opencode", "--write", f"--server={house.server.url}"]) == 0
    prompt = do(["say", "hello opencode"], about="asked by opencode")
    done = subprocess.run(
        [opencode, "run", "--model", "clinvk/claude", "--format", "json", "--title", "a title"],
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": str(tmp_path), "LANG": "C.UTF-8", **QUIET, **NO_WAY_OUT},
        input=prompt,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["part"]["text"] for event in events if event["type"] == "text"] == ["hello opencode"], done.stdout
    (report,) = house.processes("asked by opencode")
    assert "todowrite" not in report["prompt"], "the client's tools must be left out"
    listed = subprocess.run(
        [opencode, "mcp", "list"],
        cwd=tmp_path,
        env={"PATH": os.defpath, "HOME": str(tmp_path), "LANG": "C.UTF-8", **QUIET, **NO_WAY_OUT},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert f"{house.server.url}/mcp" in listed.stdout + listed.stderr
