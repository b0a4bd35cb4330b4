"""The version of this program. It is defined in pyproject.toml; an installed copy reads it from the package metadata."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def program_version() -> str:
    try:
        return version("clinvk")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return checkout_version(PROJECT)


def checkout_version(project: Path) -> str:
    """The version in the checkout's pyproject.toml. A copy of the packages alone has no such file, and still runs."""
    try:
        text = project.read_text(encoding="utf-8")
    except OSError:
        return "0+unknown"
    import tomllib  # an installed copy needs none of it

    return str(tomllib.loads(text)["project"]["version"])
