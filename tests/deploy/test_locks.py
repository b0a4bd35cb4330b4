"""The lock files: everything that pyproject.toml asks for, in one version, with hashes."""

from __future__ import annotations

import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.parts.server import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
SERVER = [*PROJECT["build-system"]["requires"], *PROJECT["project"]["dependencies"], *EXTRAS["redis"], *EXTRAS["postgres"], *EXTRAS["otel"]]
ASKED = {"server": SERVER, "test": [*SERVER, *EXTRAS["test"]]}


@cache
def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    text = (ROOT / "locks" / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return [(Requirement(line.split("--hash")[0].strip()), re.findall(r"--hash=sha256:([0-9a-f]{64})(?:\s|$)", line)) for line in lines]


def versions(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for requirement, _ in entries(name):
        found.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier).removeprefix("=="))
    return found


@pytest.mark.parametrize("name", ASKED)
def test_every_version_is_exact_and_has_a_hash(name: str) -> None:
    for requirement, hashes in entries(name):
        assert re.fullmatch(r"==[^*]+", str(requirement.specifier)), requirement
        assert requirement.url is None
        assert hashes, requirement


@pytest.mark.parametrize("name", ASKED)
def test_lock_holds_what_pyproject_asks_for_within_its_bounds(name: str) -> None:
    locked = versions(name)
    for text in ASKED[name]:
        asked = Requirement(text)
        chosen = locked[canonicalize_name(asked.name)]
        assert all(asked.specifier.contains(version, prereleases=True) for version in chosen), f"{text}: {chosen}; run ./dev lock"


def test_tests_run_on_the_versions_that_are_served() -> None:
    tested = versions("test")
    assert {name: tested[name] for name in versions("server")} == versions("server")


def test_every_dependency_has_an_upper_bound() -> None:
    asked = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *(text for extra in EXTRAS.values() for text in extra),
    ]
    assert [text for text in asked if not any(part.operator in ("<", "<=", "==", "~=") for part in Requirement(text).specifier)] == []


@pytest.mark.parametrize("name", ASKED)
def test_lock_names_no_package_index(name: str) -> None:
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    assert not re.search(r"(?m)^\s*-|://", text.replace("    --hash=", ""))
