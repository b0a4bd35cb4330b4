"""A server as the documentation describes it, and a folder with the commands that its blocks use."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import blocks_of
from tests.parts.clis import FakeCli
from tests.parts.server import ROOT, Server

ADDRESS = re.compile(r"http://(127\.0\.0\.1|localhost):8080")
"""Where the documentation says that the server is."""
END_S = 120.0

PROGRAMS = {
    "clinvk": f'exec "{sys.executable}" -m app.cli "$@"',
    # A curl that shows an error of the server's as one of its own.
    "curl": f'exec "{shutil.which("curl") or "curl"}" --fail-with-body "$@"',
    "python3": f'exec "{sys.executable}" "$@"',
}


@dataclass(frozen=True)
class Reader:
    """Somebody who pastes what the documentation says, in ``folder``, with the server at its side."""

    server: Server
    folder: Path

    def rewritten(self, text: str) -> str:
        return ADDRESS.sub(self.server.url, text)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join((str(self.folder / "bin"), os.environ["PATH"]))
        env = {
            "PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), "CLINVK_SERVER_URL": self.server.url,
        }  # fmt: skip
        return subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=END_S, check=False, stdin=subprocess.DEVNULL
        )


@pytest.fixture(scope="package")
def documented_server(scripted_cli: FakeCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the demo, the scripted CLI in the place of Claude Code, and the webhooks of the guide."""
    (webhooks,) = (yaml.safe_load(block.text) for block in blocks_of(ROOT / "docs" / "long-runs.md") if block.kind == "yaml")
    config = {"backends": {"claude": scripted_cli.backend()}, "server": {"metrics_enabled": True}, **webhooks}
    server = Server(tmp_path_factory.mktemp("documented"), config)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def reader(documented_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    folder = tmp_path_factory.mktemp("reader")
    (folder / "bin").mkdir()
    for name, line in PROGRAMS.items():
        program = folder / "bin" / name
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
    modules = ROOT / "tests" / "clients" / "node_modules"
    if modules.is_dir():
        (folder / "node_modules").symlink_to(modules)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return Reader(documented_server, folder)
