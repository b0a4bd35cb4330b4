"""Our Dockerfile without an engine: its steps in a root of their own, whose /usr is this machine's, read-only.

What an engine does beyond that is not done here: the images of FROM are not fetched (this machine's Python and Node.js stand
for them), there are no layers, and cgroups and capabilities are not what a container gets.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.parts.programs import do_without, require_program
from tests.parts.server import ROOT

DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
IGNORED = DOCKERFILE.with_name("Dockerfile.dockerignore")

FOLDERS = ("dev", "etc", "home", "opt", "proc", "root", "run", "tmp", "usr", "var/lib", "var/log")
LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC = ("alternatives", "ca-certificates", "debian_version", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "login.defs", "nsswitch.conf", "ssl")  # fmt: skip
OUTSIDE = re.compile(r"(?i)(pip_|https?_proxy|no_proxy|ssl_cert|node_extra_ca)\w*")
"""The variables of this machine that say how it reaches the package index; an engine passes them as build arguments."""

BUILD_S = 300.0


@dataclass
class Stage:
    """One FROM and what follows it. ``steps`` are the instructions with their words, in order."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def words(self, instruction: str) -> str:
        """What its last such instruction says."""
        return [words for name, words in self.steps if name == instruction][-1]

    def argv(self, instruction: str) -> list[str]:
        argv: list[str] = json.loads(self.words(instruction))
        return argv


def parse(text: str) -> list[Stage]:
    """The stages. https://docs.docker.com/reference/dockerfile/: a line that ends in a backslash goes on, comments are whole lines."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).replace("\\\n", " ").splitlines()
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, lines)):
        instruction, words = line.split(None, 1)
        if instruction == "FROM":
            base, _, name = words.partition(" AS ")
            stages.append(Stage(base, name or str(len(stages))))
        elif stages:
            stages[-1].steps.append((instruction, words))
    return stages


@dataclass
class Built:
    """A stage after its steps: its root, and what the next process in it gets."""

    root: Path
    env: dict[str, str]
    workdir: str = "/"

    def bwrap(self, *options: str) -> list[str]:
        """The root as the file system of a process. This machine's /usr/local is no part of it."""
        mounts = ("--bind", str(self.root), "/", "--ro-bind", "/usr", "/usr", "--tmpfs", "/usr/local", "--proc", "/proc", "--dev", "/dev")
        env = [word for name, value in self.env.items() for word in ("--setenv", name, value)]
        return [*as_root(), require_program("bwrap", "bubblewrap"), *mounts, "--clearenv", *env, *options, "--chdir", self.workdir]


def as_root() -> list[str]:
    """What stands before a command that must be root's: files are given to another user."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return do_without("the Dockerfile's steps need root, or sudo without a password")


def build(folder: Path, arguments: Mapping[str, Mapping[str, str]], extra_files: Mapping[str, Path]) -> tuple[Stage, Built]:
    """Carry out every stage below ``folder``; the last one. ``arguments`` are by stage, ``extra_files`` lie in every root."""
    built: dict[str, Built] = {}
    stages = parse(DOCKERFILE.read_text())
    for stage in stages:
        one = built[stage.name] = Built(new_root(folder / f"stage-{stage.name}", extra_files), {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})
        values: dict[str, str] = {}
        for instruction, words in stage.steps:
            match instruction:
                case "ARG":
                    name, _, default = words.partition("=")
                    values[name] = arguments.get(stage.name, {}).get(name, default.strip('"'))
                case "ENV":
                    one.env |= dict(word.split("=", 1) for word in words.split())
                case "WORKDIR":
                    one.workdir = words
                    (one.root / words.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    _copy(words, one, built)
                case "RUN":
                    _run(words, one, values)
    return stages[-1], built[stages[-1].name]


def new_root(root: Path, extra_files: Mapping[str, Path]) -> Path:
    """A file system with nothing but folders, this machine's links into /usr, and root as its only user."""
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    for name in LINKS:
        if Path("/", name).is_symlink():
            (root / name).symlink_to(os.readlink(f"/{name}"))
    for name in ETC:
        source = Path("/etc", name)
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name, symlinks=True, ignore=shutil.ignore_patterns("private"))
        elif source.exists():
            shutil.copy(source, root / "etc" / name)
    shutil.copy(os.path.realpath("/etc/resolv.conf"), root / "etc" / "resolv.conf")
    shutil.copy("/etc/hosts", root / "etc" / "hosts")
    for name in ("passwd", "group"):
        (root / "etc" / name).write_text("root:x:0:0:root:/root:/bin/sh\n" if name == "passwd" else "root:x:0:\n")
    for name in ("shadow", "gshadow"):
        (root / "etc" / name).touch(mode=0o600)
    for name, path in extra_files.items():
        shutil.copy(path, root / name)
    return root


def _copy(words: str, one: Built, built: Mapping[str, Built]) -> None:
    """From another stage, or from the repository."""
    option, *rest = words.split() if words.startswith("--") else ("", *words.split())
    *sources, target = rest
    start = built[option.removeprefix("--from=")].root if option else ROOT
    into = one.root / os.path.join(one.workdir, target).lstrip("/")
    for source in sources:
        path = start / source.lstrip("/")
        if path.is_dir():
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            into.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, into)


def _run(words: str, one: Built, arguments: Mapping[str, str]) -> None:
    """As an engine does: by the shell, as root. Raises AssertionError with what the step said."""
    outside = {name: value for name, value in os.environ.items() if OUTSIDE.fullmatch(name)}
    env = [word for name, value in (outside | dict(arguments)).items() for word in ("--setenv", name, value)]
    done = subprocess.run(
        [*one.bwrap(*env, "--tmpfs", "/tmp", "--die-with-parent"), "--", "/bin/sh", "-c", words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_S,
    )  # fmt: skip
    assert done.returncode == 0, f"RUN {words}\n{done.stdout}{done.stderr}"
