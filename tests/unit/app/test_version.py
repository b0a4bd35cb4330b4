from __future__ import annotations

import tomllib
from pathlib import Path

from app.config.schema import Settings
from app.server.banner import opening
from app.version import PROJECT, checkout_version, program_version

NUMBER = tomllib.loads(PROJECT.read_text())["project"]["version"]


def test_a_checkout_that_is_not_installed_tells_the_number_of_its_project_file() -> None:
    assert checkout_version(PROJECT) == NUMBER


def test_the_packages_alone_have_no_number(tmp_path: Path) -> None:
    assert checkout_version(tmp_path / "pyproject.toml") == "0+unknown"


def test_the_banner_tells_it() -> None:
    assert opening(Settings(), "http://x", "open").startswith(f"clinvk {program_version()} listens")
