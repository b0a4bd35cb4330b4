"""The servers and tools from Debian's packages that tests start: there, or the reason why a test cannot be run."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def do_without(reason: str) -> NoReturn:
    """Skip the test with the reason, or fail it where REQUIRE_REAL_PARTS=1 forbids that."""
    if os.environ.get("REQUIRE_REAL_PARTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require_program(program: str, package: str | None = None) -> str:
    """The path of ``program``; see `do_without` for where it is missing."""
    found = shutil.which(program, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    return found or do_without(f"{program} is not installed: `apt-get install {package or program}`")
