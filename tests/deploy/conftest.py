"""What the Dockerfile builds, for the tests that start it."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Built, Stage, as_root, build
from tests.parts.programs import do_without, require_program


def npm_package(path: Path) -> Path:
    """A CLI as npm installs it: here one that knows nothing but its version."""
    about = {"name": "a-cli", "version": "9.9.9", "bin": {"claude": "claude.js"}}
    script = "#!/usr/bin/env node\nconsole.log('9.9.9 (Claude Code)')\n"
    with tarfile.open(path, "w:gz") as tar:
        for name, text, mode in (("package.json", json.dumps(about), 0o644), ("claude.js", script, 0o755)):
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.mode = len(text), mode
            tar.addfile(member, BytesIO(text.encode()))
    return path


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Built]]:
    """Built with one CLI. The last stage is not told of it: its `apt-get` would change this machine's /usr."""
    for program, package in (("bwrap", "bubblewrap"), ("npm", "npm"), ("setpriv", "util-linux")):
        require_program(program, package)
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]).returncode:
        do_without("/usr/bin/python3 is not 3.11 or later with the module ensurepip: `apt-get install python3-venv`")
    if os.geteuid():
        folder = tmp_path_factory.mktemp("image")
        yield build_in(folder)
        subprocess.run([*as_root(), "rm", "-rf", str(folder)], check=True)
    else:
        yield built_once(tmp_path_factory)


def build_in(folder: Path) -> tuple[Stage, Built]:
    folder.chmod(0o755)
    return build(folder, {"clis": {"CLIS": "/a-cli.tgz"}}, {"a-cli.tgz": npm_package(folder / "a-cli.tgz")})


def built_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stage, Built]:
    """By the first of pytest's processes that needs it, for all of them."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, result = shared / "image", shared / "image.pickle"
    with (shared / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            result.write_bytes(pickle.dumps(build_in(folder)))
    made: tuple[Stage, Built] = pickle.loads(result.read_bytes())
    return made
