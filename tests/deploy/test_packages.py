"""The wheel and the source distribution: built from the tracked files, installed into new environments, and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.parts.server import ROOT

BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
PACKAGES = ("app", "blueprints", "services")


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Without the caller's environment: only what was installed is found."""
    base = {"PATH": os.defpath, "HOME": str(cwd), "LANG": "C.UTF-8"}
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_")) or name.lower().endswith("_proxy")}
    done = subprocess.run(command, cwd=cwd, env=base | kept | env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both, built from a copy: the build leaves files in its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        if not name.startswith(("tests/", "bench/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    for step in ("build_sdist", "build_wheel"):
        run(sys.executable, "-c", BUILD, step, str(out), cwd=source)
    return out


def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def new_environment(folder: Path) -> Path:
    venv.create(folder / "venv", with_pip=True)
    return folder / "venv" / "bin"


def test_both_hold_every_file_of_the_packages_and_the_licence(built: Path) -> None:
    expected = {name for name in tracked() if name.partition("/")[0] in PACKAGES}
    wheel = set(zipfile.ZipFile(one(built, "*.whl")).namelist())
    assert not expected - wheel
    assert [name for name in wheel if name.endswith("licenses/LICENSE")]
    with tarfile.open(one(built, "*.tar.gz")) as archive:
        sdist = {name.partition("/")[2] for name in archive.getnames()}
    assert not {*expected, "LICENSE", "README.md", "wsgi.py"} - sdist


def test_the_wheel_installs_with_its_dependencies_and_answers(built: Path, tmp_path: Path) -> None:
    programs = new_environment(tmp_path)
    run(programs / "pip", "install", "--quiet", "--disable-pip-version-check", one(built, "*.whl"), cwd=tmp_path)
    assert run(programs / "clinvk", "version", cwd=tmp_path).startswith("clinvk ")
    answer = run(programs / "clinvk", "prompt", "-b", "demo", "Say hello", cwd=tmp_path, CLINVK_SERVER__PORT="0")
    assert answer.startswith("Hello! This is demo-1")


def test_the_source_distribution_installs_the_same_files(built: Path, tmp_path: Path) -> None:
    programs = new_environment(tmp_path)
    run(programs / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", one(built, "*.tar.gz"), cwd=tmp_path)
    site = one(tmp_path / "venv", "lib/python*/site-packages")
    installed = {str(path.relative_to(site)) for name in PACKAGES for path in (site / name).rglob("*") if path.is_file()}
    wheel = {name for name in zipfile.ZipFile(one(built, "*.whl")).namelist() if name.partition("/")[0] in PACKAGES}
    assert {name for name in installed if "__pycache__" not in name} == wheel
