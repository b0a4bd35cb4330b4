"""Processes of root and of an ordinary user, for what holds for one of them alone."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import pytest

USERS = ["root", "an ordinary user"]
ORDINARY_UID = 65_432

# A Python that everybody may start; the one that the tests run with may be in somebody's home.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable


def started_as(user: str) -> dict[str, Any]:
    """The arguments by which `subprocess.Popen` starts a process of this user."""
    if os.getuid() == 0:
        return {} if user == "root" else {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []}
    return {} if user != "root" else pytest.skip("only root can start processes of root")
