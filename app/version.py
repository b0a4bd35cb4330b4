"""The version of this program. The number stands in one place, pyproject.toml; an installed copy has it from there."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def program_version() -> str:
    try:
        return version("clinvk")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return checkout_version(PROJECT)


def checkout_version(project: Path) -> str:
    """What the checkout's own file says. A copy of the packages alone has none, and runs all the same."""
    try:
        text = project.read_text(encoding="utf-8")
    except OSError:
        return "0+unknown"
    return str(tomllib.loads(text)["project"]["version"])
