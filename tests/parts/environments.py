"""Python environments of their own, for clients whose dependencies do not fit beside the others'."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest

INSTALL_S, RUN_S = 300, 90


def environment_with(package: str, folder: Path) -> Path:
    """Install ``package`` into a new environment; the folder of its programs."""
    if os.environ.get("REQUIRE_CLIENTS") != "1":
        pytest.skip(f"{package} would be installed into an environment of its own: set REQUIRE_CLIENTS=1")
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    install = [programs / "pip", "install", "--quiet", "--disable-pip-version-check", package]
    done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    assert done.returncode == 0, done.stderr
    return programs


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """What the command prints."""
    base = {"PATH": os.defpath, "HOME": str(cwd), "LANG": "C.UTF-8"}
    done = subprocess.run(command, cwd=cwd, env=base | env, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
