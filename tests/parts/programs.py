"""Servers and tools from Debian packages that tests start; tests are skipped without them."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def do_without(reason: str) -> NoReturn:
    """Skip the test with the reason, or fail it if REQUIRE_REAL_PARTS=1."""
    if os.environ.get("REQUIRE_REAL_PARTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_program(program: str, package: str | None = None) -> str:
    """The path of ``program``; calls `do_without` if it is missing."""
    found = shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    return found or do_without(f"{program} is not installed: `apt-get install {package or program}`")
