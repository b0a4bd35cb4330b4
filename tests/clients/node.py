"""Runs a script of this folder with Node.js: the JavaScript SDKs as clients."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
TIMEOUT_S = 120


def run_node(script: str, *args: str) -> Any:
    """What ``script`` prints: one JSON value. Skips the test, with the reason, where Node.js or the packages are missing."""
    if not shutil.which("node") or not (FOLDER / "node_modules").is_dir():
        reason = "the JavaScript clients are not installed: `npm ci --prefix tests/clients`"
        if os.environ.get("REQUIRE_CLIENTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    # A proxy or a key of the developer's own must not change what the clients do.
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(["node", str(FOLDER / script), *args], env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
