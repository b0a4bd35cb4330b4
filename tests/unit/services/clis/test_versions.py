"""What is said about the version of a CLI, and that the bounds are those of the CLIs that the tests run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.clis.registry import BUILT_IN
from services.clis.versions import Fault, SupportedVersions

CLIS = Path(__file__).parents[3] / "clis"
PACKAGES = {"claude": "@anthropic-ai/claude-code", "codex": "@openai/codex", "gemini": "@google/gemini-cli"}
VERSIONS = SupportedVersions(oldest="2.1.9", newest="2.1.20", faults=(Fault("2.1.12", "loses words"),))


@pytest.mark.parametrize(
    ("version", "warnings"),
    [
        ("2.1.20", ()),
        ("2.1.12", ()),
        ("2.1.9", ("loses words (fixed in 2.1.12)",)),
        ("2.1.12-rc.1", ("loses words (fixed in 2.1.12)",)),
        ("2.1.8", ("2.1.8 is older than 2.1.9, the oldest version that is supported", "loses words (fixed in 2.1.12)")),
        ("2.1.100", ("2.1.100 is newer than 2.1.20, the newest version that was tested",)),
        ("3.0", ("3.0 is newer than 2.1.20, the newest version that was tested",)),
    ],
)
def test_warnings_of_a_version(version: str, warnings: tuple[str, ...]) -> None:
    assert VERSIONS.warnings(version) == warnings


@pytest.mark.parametrize("name", PACKAGES)
def test_the_bounds_are_the_versions_that_the_tests_run(name: str) -> None:
    versions, package = BUILT_IN[name].versions, PACKAGES[name]
    assert versions is not None
    newest = pinned(CLIS)
    assert versions.newest == newest[package]
    assert versions.oldest == (newest | pinned(CLIS / "oldest"))[package]


def pinned(folder: Path) -> dict[str, str]:
    versions: dict[str, str] = json.loads((folder / "package.json").read_text())["dependencies"]
    locked = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert {name: locked[f"node_modules/{name}"]["version"] for name in versions} == versions
    assert not any("resolved" in package for package in locked.values()), "a lock file names where a package was downloaded from"
    return versions
