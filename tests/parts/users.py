"""Processes of root and of an ordinary user, for tests that need one of them."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import pytest

USERS = ["root", "an ordinary user"]
ORDINARY_UID = 65_432

# A Python that every user can execute; the test run's own may be in a home folder.
PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable


def started_as(user: str) -> dict[str, Any]:
    """Arguments with which `subprocess.Popen` starts a process as this user."""
    if os.getuid() == 0:
        return {} if user == "root" else {"user": ORDINARY_UID, "group": ORDINARY_UID, "extra_groups": []}
    return {} if user != "root" else pytest.skip("only root can start processes of root")
